{{/* Names, labels, images. */}}

{{- define "landcover.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- ternary .Release.Name (printf "%s-%s" .Release.Name $name) (contains $name .Release.Name) | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "landcover.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/part-of: landcover
{{ include "landcover.selector" . }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* What never changes, since a Deployment's selector cannot. */}}
{{- define "landcover.selector" -}}
app.kubernetes.io/name: {{ default .Chart.Name .Values.nameOverride }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{/* Of pods: without versions, since a new chart must not start every GPU worker anew. */}}
{{- define "landcover.podLabels" -}}
app.kubernetes.io/part-of: landcover
{{ include "landcover.selector" . }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "landcover.serviceAccount" -}}
{{- default (ternary (include "landcover.fullname" .) "default" .Values.serviceAccount.create) .Values.serviceAccount.name -}}
{{- end -}}

{{/* (list $ image): registry/repository:tag, or @digest. */}}
{{- define "landcover.image" -}}
{{- $ := index . 0 -}}
{{- $image := index . 1 -}}
{{- with $.Values.image.registry }}{{ trimSuffix "/" . }}/{{ end -}}
{{- $image.repository -}}
{{- if $image.digest }}@{{ $image.digest }}{{ else }}:{{ coalesce $image.tag $.Values.image.tag $.Chart.AppVersion }}{{ end -}}
{{- end -}}

{{/* (list $ name): the pool, on top of what all of them are, as JSON. */}}
{{- define "landcover.pool" -}}
{{- $ := index . 0 -}}
{{- $own := default dict (get $.Values.workers (index . 1)) -}}
{{- $pool := mustMergeOverwrite (deepCopy $.Values.workerDefaults) (deepCopy $own) -}}
{{- if not $pool.image.repository -}}
{{- $_ := set $pool.image "repository" (ternary "landcover-worker-gpu" "landcover-worker" (gt (int $pool.gpu.count) 0)) -}}
{{- end -}}
{{- toJson $pool -}}
{{- end -}}

{{/* Names of the pools that are there, as a JSON list. */}}
{{- define "landcover.pools" -}}
{{- $names := list -}}
{{- range $name, $_ := .Values.workers -}}
{{- if (include "landcover.pool" (list $ $name) | fromJson).enabled }}{{ $names = append $names $name }}{{ end -}}
{{- end -}}
{{- toJson $names -}}
{{- end -}}

{{/* (list $ pool): blocks of each queue that one of its workers has in hand, as `landcover_worker.service` counts them. */}}
{{- define "landcover.pool.slots" -}}
{{- $ := index . 0 -}}
{{- $pool := index . 1 -}}
{{- $env := mustMergeOverwrite (deepCopy $.Values.env) $pool.env -}}
{{- $batch := get $env "LANDCOVER_WORKER_MAX_BATCH" | default (ternary 8 1 (gt (int $pool.gpu.count) 0)) | int -}}
{{- get $env "LANDCOVER_WORKER_THREADS" | default (max 4 (mul 2 $batch)) | int -}}
{{- end -}}

{{/* (list $ pool): blocks for each pod. A job keeps twice the slots of all workers in the queue, so a pool grows by less. */}}
{{- define "landcover.pool.blocks" -}}
{{- $slots := include "landcover.pool.slots" . | int -}}
{{- (index . 1).keda.blocksPerWorker | default (div (mul 3 $slots) 2) | int -}}
{{- end -}}
