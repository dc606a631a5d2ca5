{{/* Combinations that would go wrong later are refused here, each with a sentence. */}}

{{- define "landcover.check" -}}
{{- include "landcover.check.stores" . -}}
{{- include "landcover.check.scenes" . -}}
{{- include "landcover.check.models" . -}}
{{- include "landcover.check.api" . -}}
{{- include "landcover.check.env" (list "env" .Values.env) -}}
{{- include "landcover.check.workers" . -}}
{{- include "landcover.check.outside" . -}}
{{- end -}}

{{- define "landcover.check.stores" -}}
{{- if and .Values.valkey.enabled (not .Values.development) -}}
{{- fail "valkey.enabled starts two servers without a password that keep nothing. Say development=true if that is what you want, or name your own with broker.url and cache.url." -}}
{{- end -}}
{{- range $name := list "broker" "cache" -}}
{{- $store := get $.Values $name -}}
{{- if and $.Values.valkey.enabled (or $store.url $store.existingSecret.name) -}}
{{- fail (printf "Both valkey.enabled and %s.url or its secret are given: leave one out." $name) -}}
{{- end -}}
{{- if and $store.url $store.existingSecret.name -}}
{{- fail (printf "Both %s.url and %s.existingSecret.name are given: leave one out." $name $name) -}}
{{- end -}}
{{- if not (or $.Values.valkey.enabled $store.url $store.existingSecret.name) -}}
{{- fail (printf "There is no %s: give %s.url (redis:// or rediss://) or %s.existingSecret.name." $name $name $name) -}}
{{- end -}}
{{- if and $store.url (not (regexMatch "^rediss?://" $store.url)) -}}
{{- fail (printf "%s.url has to begin with redis:// or rediss://." $name) -}}
{{- end -}}
{{- if and $store.tls.caSecret $store.url (not (hasPrefix "rediss://" $store.url)) -}}
{{- fail (printf "%s.tls.caSecret is given, but %s.url speaks no TLS: let it begin with rediss://." $name $name) -}}
{{- end -}}
{{- end -}}
{{- if and .Values.broker.url (eq .Values.broker.url .Values.cache.url) -}}
{{- fail "broker.url and cache.url are one server's. A cache that drops what it used least would drop queued tasks: give each a server of its own." -}}
{{- end -}}
{{- if and .Values.broker.existingSecret.name (eq .Values.broker.existingSecret.name .Values.cache.existingSecret.name) (eq .Values.broker.existingSecret.key .Values.cache.existingSecret.key) -}}
{{- fail "broker.existingSecret and cache.existingSecret are one key of one secret: give broker and cache a server each." -}}
{{- end -}}
{{- if and .Values.database.url .Values.database.existingSecret.name -}}
{{- fail "Both database.url and database.existingSecret.name are given: leave one out." -}}
{{- end -}}
{{- if and (hasPrefix "sqlite" .Values.database.url) (not .Values.development) -}}
{{- fail "database.url is SQLite, a file of one pod that ends with it: give a postgresql:// URL." -}}
{{- end -}}
{{- if and .Values.apiKeys.hashed .Values.apiKeys.existingSecret.name -}}
{{- fail "Both apiKeys.hashed and apiKeys.existingSecret.name are given: leave one out." -}}
{{- end -}}
{{- if and (eq .Values.apiKeys.for "all") (not (or .Values.apiKeys.hashed .Values.apiKeys.existingSecret.name)) -}}
{{- fail "apiKeys.for is all, and there are no keys: nobody could read. Give apiKeys.hashed or apiKeys.existingSecret.name." -}}
{{- end -}}
{{- range .Values.apiKeys.hashed -}}
{{- if not (regexMatch "^[A-Za-z0-9._-]{1,64}:((read|write):)?sha256:[0-9a-fA-F]{64}$" .) -}}
{{- fail "apiKeys.hashed takes hashes only (NAME:read:sha256:…), and one of its entries is none. Keys themselves are kept by those who use them." -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "landcover.check.scenes" -}}
{{- $scenes := .Values.scenes -}}
{{- if not (or $scenes.locations $scenes.catalogue $scenes.existingConfigMap.name) -}}
{{- fail "There is no image to map: give scenes.locations, scenes.catalogue or scenes.existingConfigMap.name." -}}
{{- end -}}
{{- if and $scenes.catalogue $scenes.existingConfigMap.name -}}
{{- fail "Both scenes.catalogue and scenes.existingConfigMap.name are given: leave one out." -}}
{{- end -}}
{{- $all := $scenes.locations -}}
{{- range $scenes.catalogue -}}
{{- with .location }}{{ $all = append $all . }}{{ end -}}
{{- end -}}
{{- range $all -}}
{{- if contains "://" . -}}
{{- if and $.Values.networkPolicy.enabled (not $.Values.networkPolicy.origins) (not $.Values.networkPolicy.extraEgress) -}}
{{- fail (printf "%s lies outside, and networkPolicy.origins lets nobody out: list its network there." (regexReplaceAll "[?].*" . "")) -}}
{{- end -}}
{{- else if and (hasPrefix "/" .) (not $.Values.scenes.volume) -}}
{{- fail (printf "%s is a file in the pods, and there is no volume with it: give scenes.volume, which is mounted at /data/scenes." .) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "landcover.check.models" -}}
{{- $models := .Values.models -}}
{{- $sources := list -}}
{{- if $models.pvc.claimName }}{{ $sources = append $sources "models.pvc.claimName" }}{{ end -}}
{{- if $models.ociImage.reference }}{{ $sources = append $sources "models.ociImage.reference" }}{{ end -}}
{{- if $models.initContainer.image }}{{ $sources = append $sources "models.initContainer.image" }}{{ end -}}
{{- if gt (len $sources) 1 -}}
{{- fail (printf "Models come from one place, and these are given: %s." (join ", " $sources)) -}}
{{- end -}}
{{- if and $models.files (not $sources) -}}
{{- fail "models.files are named, and nothing holds them: give models.pvc.claimName, models.ociImage.reference or models.initContainer.image." -}}
{{- end -}}
{{- if and $sources (not $models.files) -}}
{{- fail (printf "%s is given, and none of its files is named: list them in models.files with their digests." (first $sources)) -}}
{{- end -}}
{{- range $models.files -}}
{{- if not (regexMatch "^sha256:[0-9a-f]{64}$" (default "" .digest)) -}}
{{- fail (printf "The model %s is not pinned: give its digest as sha256:… and 64 hexadecimal digits (landcover models list shows it)." .name) -}}
{{- end -}}
{{- end -}}
{{- with $models.ociImage.reference -}}
{{- if not (regexMatch "@sha256:[0-9a-f]{64}$" .) -}}
{{- fail (printf "models.ociImage.reference %s is not pinned: let it end with @sha256:…" .) -}}
{{- end -}}
{{- if semverCompare "<1.33.0-0" $.Capabilities.KubeVersion.Version -}}
{{- fail (printf "models.ociImage is an image volume, which Kubernetes %s does not have (1.33 and newer; before 1.35 by a feature gate): use models.pvc or models.initContainer." $.Capabilities.KubeVersion.Version) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "landcover.check.api" -}}
{{- $api := .Values.api -}}
{{- if $api.autoscaling.enabled -}}
{{- if gt (int $api.autoscaling.minReplicas) (int $api.autoscaling.maxReplicas) -}}
{{- fail "api.autoscaling.minReplicas is more than its maxReplicas." -}}
{{- end -}}
{{- if not (dig "requests" "cpu" "" $api.resources) -}}
{{- fail "api.autoscaling goes by the share of the requested CPU, and api.resources.requests.cpu is not given." -}}
{{- end -}}
{{- end -}}
{{- if le (int $api.terminationGracePeriodSeconds) (add (int $api.preStopSeconds) 5 | int) -}}
{{- fail "api.terminationGracePeriodSeconds has to be more than api.preStopSeconds + 5: nothing would be left for answering." -}}
{{- end -}}
{{- if and .Values.products.location .Values.products.volume -}}
{{- fail "Both products.location and products.volume are given: leave one out." -}}
{{- end -}}
{{- if and .Values.products.location (not (hasPrefix "s3://" .Values.products.location)) -}}
{{- fail "products.location has to begin with s3://; a folder is given as products.volume." -}}
{{- end -}}
{{- include "landcover.check.env" (list "api.env" $api.env) -}}
{{- end -}}

{{/* (list "api.env" map) */}}
{{- define "landcover.check.env" -}}
{{- $where := index . 0 -}}
{{- $ours := dict
  "LANDCOVER_BROKER_URL" "broker" "LANDCOVER_CACHE_URL" "cache" "LANDCOVER_DATABASE_URL" "database"
  "LANDCOVER_SCENES" "scenes" "LANDCOVER_MODELS" "models" "LANDCOVER_DEFAULT_MODEL" "models.default"
  "LANDCOVER_PRODUCTS" "products" "LANDCOVER_PRODUCTS_WORK" "products" "LANDCOVER_API_KEYS" "apiKeys"
  "LANDCOVER_API_KEYS_FILE" "apiKeys" "LANDCOVER_API_KEYS_FOR" "apiKeys.for" "LANDCOVER_LOG_FORMAT" "log.format" "LANDCOVER_LOG_LEVEL" "log.level"
  "OTEL_EXPORTER_OTLP_ENDPOINT" "tracing.endpoint" "LANDCOVER_WORKER_QUEUES" "queues of the pool"
  "LANDCOVER_WORKER_DEVICE" "gpu.count of the pool" "LANDCOVER_WORKER_HARD_LIMIT_S" "hardLimitSeconds of the pool"
  "LANDCOVER_WORKER_METRICS_PORT" "nothing: it is always 9100"
  "LANDCOVER_WORKER_CPU_THREADS" "resources.requests.cpu of the pool"
  "LANDCOVER_API_SHUTDOWN_S" "api.terminationGracePeriodSeconds" -}}
{{- range $name, $_ := index . 1 -}}
{{- with get $ours $name -}}
{{- fail (printf "%s sets %s, which the chart sets itself; it comes from %s." $where $name .) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "landcover.check.workers" -}}
{{- $pools := include "landcover.pools" . | fromJsonArray -}}
{{- $taken := list -}}
{{- range $name := $pools -}}
{{- $pool := include "landcover.pool" (list $ $name) | fromJson -}}
{{- $where := printf "workers.%s" $name -}}
{{- if not (regexMatch "^[a-z]([-a-z0-9]{0,13}[a-z0-9])?$" $name) -}}
{{- fail (printf "%s: a pool's name is part of names in the cluster: at most 15 of a-z, 0-9 and -." $where) -}}
{{- end -}}
{{- range $pool.queues -}}
{{- if eq . "train" -}}
{{- fail (printf "%s takes from 'train', whose rounds need landcover trainer and a disk that is shared with who submits them; this chart runs none." $where) -}}
{{- end -}}
{{- if not (has . (list "interactive" "bulk")) -}}
{{- fail (printf "%s takes from '%s', and there is no such queue: they are interactive and bulk." $where .) -}}
{{- end -}}
{{- $taken = append $taken . -}}
{{- end -}}
{{- if not $pool.queues -}}
{{- fail (printf "%s takes from no queue: name interactive, bulk or both." $where) -}}
{{- end -}}
{{- if le (int $pool.terminationGracePeriodSeconds) (int $pool.hardLimitSeconds) -}}
{{- fail (printf "%s.terminationGracePeriodSeconds is %d, and one block may take hardLimitSeconds (%d): a worker that is told to stop would be killed over its work. Give it more." $where (int $pool.terminationGracePeriodSeconds) (int $pool.hardLimitSeconds)) -}}
{{- end -}}
{{- if and (gt (int $pool.gpu.count) 0) (not (contains "/" $pool.gpu.resource)) -}}
{{- fail (printf "%s.gpu.resource '%s' is no extended resource: they have a slash, as nvidia.com/gpu or nvidia.com/mig-1g.10gb." $where $pool.gpu.resource) -}}
{{- end -}}
{{- if and (eq ($pool.rollingUpdate.maxSurge | toString) "0") (eq ($pool.rollingUpdate.maxUnavailable | toString) "0") -}}
{{- fail (printf "%s.rollingUpdate allows neither a pod more nor one fewer: no update could begin." $where) -}}
{{- end -}}
{{- include "landcover.check.env" (list (printf "%s.env" $where) $pool.env) -}}
{{- if $pool.keda.enabled -}}
{{- include "landcover.check.keda" (list $ $where $pool) -}}
{{- end -}}
{{- end -}}
{{- if not $pools -}}
{{- fail "No pool of workers is enabled: nothing would ever be mapped." -}}
{{- end -}}
{{- range list "interactive" "bulk" -}}
{{- if not (has . $taken) -}}
{{- fail (printf "No pool takes from '%s': what is queued there would wait for ever." .) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* (list $ "workers.gpu" pool) */}}
{{- define "landcover.check.keda" -}}
{{- $ := index . 0 -}}
{{- $where := printf "%s.keda" (index . 1) -}}
{{- $pool := index . 2 -}}
{{- $keda := $pool.keda -}}
{{- if gt (int $keda.minReplicas) (int $keda.maxReplicas) -}}
{{- fail (printf "%s.minReplicas is more than its maxReplicas." $where) -}}
{{- end -}}
{{- if lt (int $keda.maxReplicas) 1 -}}
{{- fail (printf "%s.maxReplicas is 0: nothing would ever be mapped." $where) -}}
{{- end -}}
{{- if and (eq $keda.source "prometheus") (not $keda.prometheus.serverAddress) -}}
{{- fail (printf "%s asks Prometheus, and prometheus.serverAddress is not given. Without a Prometheus, say source: api." $where) -}}
{{- end -}}
{{- if and (eq $keda.source "prometheus") (not $.Values.monitoring.serviceMonitor.enabled) -}}
{{- fail (printf "%s asks Prometheus for what the API exports, and monitoring.serviceMonitor.enabled is false: nobody would scrape it." $where) -}}
{{- end -}}
{{- if and $keda.prometheus.authenticationRef (not $keda.prometheus.authModes) -}}
{{- fail (printf "%s.prometheus.authenticationRef is given without authModes: KEDA would leave it out. Say bearer, basic, tls or custom." $where) -}}
{{- end -}}
{{- $needed := add (int $pool.hardLimitSeconds) (int $keda.coldStartSeconds) -}}
{{- if le (int $keda.cooldownSeconds) (int $needed) -}}
{{- fail (printf "%s.cooldownSeconds is %d, not more than hardLimitSeconds + coldStartSeconds (%d): a pod would go before it has paid for its start." $where (int $keda.cooldownSeconds) (int $needed)) -}}
{{- end -}}
{{- if lt (int $keda.coldStartSeconds) 1 -}}
{{- fail (printf "%s.coldStartSeconds has to be what a first pod takes: measure it once." $where) -}}
{{- end -}}
{{- $slots := include "landcover.pool.slots" (list $ $pool) | int -}}
{{- $blocks := include "landcover.pool.blocks" (list $ $pool) | int -}}
{{- if and (has "bulk" $pool.queues) (ge $blocks (int (mul 2 $slots))) -}}
{{- fail (printf "%s.blocksPerWorker is %d, and a job keeps no more than %d blocks in the queue for each worker (twice what it has in hand): the pool would never grow. Give less." $where $blocks (mul 2 $slots)) -}}
{{- end -}}
{{- if ge (int $keda.coldStartSeconds) 600 -}}
{{- fail (printf "%s.coldStartSeconds is %d, and a queued block is dropped unread after 600: keep a pod (minReplicas: 1), or have nodes and images nearer." $where (int $keda.coldStartSeconds)) -}}
{{- end -}}
{{- if eq (int $keda.minReplicas) 0 -}}
{{- if not (include "landcover.store.address" (list $ "broker")) -}}
{{- fail (printf "%s.minReplicas is 0, and only a secret knows where the broker is: give broker.address (host:port), since KEDA looks there for the first task." $where) -}}
{{- end -}}
{{- if contains "%" ((urlParse $.Values.broker.url).userinfo) -}}
{{- fail (printf "%s.minReplicas is 0, and broker.url has a password with %%-escapes, which KEDA does not read: put it into a secret and name broker.existingSecret.passwordKey." $where) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "landcover.check.outside" -}}
{{- if and .Values.ingress.enabled (not .Values.ingress.hosts) -}}
{{- fail "ingress.enabled is true, and ingress.hosts names none." -}}
{{- end -}}
{{- if and .Values.httpRoute.enabled (not .Values.httpRoute.parentRefs) -}}
{{- fail "httpRoute.enabled is true, and httpRoute.parentRefs names no gateway." -}}
{{- end -}}
{{- range $name := list "ingress" "httpRoute" -}}
{{- $outside := get $.Values $name -}}
{{- if and $outside.enabled (ne $outside.path "/") (ne (trimSuffix "/" $outside.path) (trimSuffix "/" $.Values.api.rootPath)) -}}
{{- fail (printf "%s.path is %s, and api.rootPath is not: the addresses in the API's answers would lead elsewhere. Make them the same." $name $outside.path) -}}
{{- end -}}
{{- end -}}
{{- $monitoring := .Values.monitoring -}}
{{- if and $monitoring.prometheusRule.enabled (not (and $monitoring.serviceMonitor.enabled $monitoring.podMonitor.enabled)) -}}
{{- fail "monitoring.prometheusRule goes by figures of API and workers, and nobody scrapes both: enable serviceMonitor and podMonitor." -}}
{{- end -}}
{{- if and $monitoring.serviceMonitor.enabled .Values.networkPolicy.enabled .Values.networkPolicy.apiFrom (not .Values.networkPolicy.metricsFrom) -}}
{{- fail "networkPolicy.apiFrom names who may reach the API, and Prometheus is not among them: name it in networkPolicy.metricsFrom." -}}
{{- end -}}
{{- if and .Values.tracing.endpoint (not (regexMatch "^https?://[^/:]+(:[0-9]+)?/?$" .Values.tracing.endpoint)) -}}
{{- fail "tracing.endpoint has to be http://HOST:PORT or https://HOST:PORT, without a path." -}}
{{- end -}}
{{- end -}}
