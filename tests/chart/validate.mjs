// Check custom resources, a JSON list on standard input, against their models; prints a JSON list of faults.
//
// The models let unknown fields pass, as a cluster's API server does after dropping them: a misspelt field would do
// nothing. A validator reads every field that it knows, so a field that it never read is one that nobody knows.

import { HTTPRoute } from "@kubernetes-models/gateway-api/gateway.networking.k8s.io/v1/HTTPRoute";
import { ScaledObject } from "@kubernetes-models/keda/keda.sh/v1alpha1/ScaledObject";
import { TriggerAuthentication } from "@kubernetes-models/keda/keda.sh/v1alpha1/TriggerAuthentication";
import { PodMonitor } from "@kubernetes-models/prometheus-operator/monitoring.coreos.com/v1/PodMonitor";
import { PrometheusRule } from "@kubernetes-models/prometheus-operator/monitoring.coreos.com/v1/PrometheusRule";
import { ServiceMonitor } from "@kubernetes-models/prometheus-operator/monitoring.coreos.com/v1/ServiceMonitor";

const MODELS = new Map(
  [HTTPRoute, ScaledObject, TriggerAuthentication, PodMonitor, PrometheusRule, ServiceMonitor].map((model) => [
    `${model.apiVersion} ${model.kind}`,
    model,
  ]),
);

function watched(value, path, unread) {
  if (value === null || typeof value !== "object") return value;
  const inner = {};
  for (const key of Object.keys(value)) unread.add(`${path}/${key}`);
  return new Proxy(value, {
    get(target, key) {
      if (typeof key !== "string" || !Object.hasOwn(target, key)) return Reflect.get(target, key);
      unread.delete(`${path}/${key}`);
      return (inner[key] ??= watched(target[key], `${path}/${key}`, unread));
    },
  });
}

function faultsOf(document) {
  const name = `${document.kind} ${document.metadata?.name}`;
  const Model = MODELS.get(`${document.apiVersion} ${document.kind}`);
  if (!Model) return [`${name}: there is no model of ${document.apiVersion}`];
  const unread = new Set();
  const model = new Model({ metadata: document.metadata });
  model.spec = watched(document.spec, "spec", unread);
  try {
    model.validate();
  } catch (error) {
    return [`${name}: ${error.message}`];
  }
  return [...unread].map((path) => `${name}: unknown field ${path}`);
}

let text = "";
for await (const part of process.stdin) text += part;
console.log(JSON.stringify(JSON.parse(text).flatMap(faultsOf)));
