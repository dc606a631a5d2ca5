{{/* Broker, cache, database and keys: where they are, and in which secret that is said. */}}

{{- define "landcover.secret" -}}
{{ include "landcover.fullname" . }}-settings
{{- end -}}

{{/* (list $ "broker"): the URL that goes into our own secret. TLS without a word about certificates would check none. */}}
{{- define "landcover.store.url" -}}
{{- $ := index . 0 -}}
{{- $name := index . 1 -}}
{{- $store := get $.Values $name -}}
{{- if $.Values.valkey.enabled -}}
redis://{{ include "landcover.fullname" $ }}-{{ $name }}:6379/0
{{- else if hasPrefix "rediss://" $store.url -}}
{{- $words := list -}}
{{- if not (contains "ssl_cert_reqs=" $store.url) }}{{ $words = append $words "ssl_cert_reqs=required" }}{{ end -}}
{{- if and $store.tls.caSecret (not (contains "ssl_ca_certs=" $store.url)) -}}
{{- $words = append $words (printf "ssl_ca_certs=/etc/landcover/%s-ca/ca.crt" $name) -}}
{{- end -}}
{{- $store.url -}}
{{- with $words }}{{ ternary "&" "?" (contains "?" $store.url) }}{{ join "&" . }}{{ end -}}
{{- else -}}
{{- $store.url -}}
{{- end -}}
{{- end -}}

{{/* (list $ "broker"): host:port, or nothing where only a secret knows. */}}
{{- define "landcover.store.address" -}}
{{- $ := index . 0 -}}
{{- $name := index . 1 -}}
{{- $store := get $.Values $name -}}
{{- if or $.Values.valkey.enabled $store.url -}}
{{- $host := (urlParse (include "landcover.store.url" .)).host -}}
{{- ternary $host (printf "%s:6379" $host) (regexMatch ":[0-9]+$" $host) -}}
{{- else -}}
{{- $store.address -}}
{{- end -}}
{{- end -}}

{{/* (list $ "broker"): the port. */}}
{{- define "landcover.store.port" -}}
{{- regexFind "[0-9]+$" (include "landcover.store.address" .) | default "6379" -}}
{{- end -}}

{{/* (list $ "broker"): the variable. */}}
{{- define "landcover.store.env" -}}
{{- $ := index . 0 -}}
{{- $name := index . 1 -}}
{{- $there := (get $.Values $name).existingSecret -}}
- name: LANDCOVER_{{ upper $name }}_URL
  valueFrom:
    secretKeyRef:
      name: {{ default (include "landcover.secret" $) $there.name }}
      key: {{ ternary $there.key (printf "%s-url" $name) (ne $there.name "") }}
{{- end -}}
