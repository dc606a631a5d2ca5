{{/* What API pods and worker pods share. */}}

{{/* Pod Security "restricted", and no token of the cluster's API. */}}
{{- define "landcover.pod.security" -}}
serviceAccountName: {{ include "landcover.serviceAccount" . }}
automountServiceAccountToken: false
enableServiceLinks: false
{{- with .Values.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
securityContext:
  runAsNonRoot: true
  {{- with .Values.podSecurityContext }}
  {{- if .runAsUser }}
  runAsUser: {{ int .runAsUser }}
  {{- end }}
  {{- if .runAsGroup }}
  runAsGroup: {{ int .runAsGroup }}
  {{- end }}
  {{- if .fsGroup }}
  fsGroup: {{ int .fsGroup }}
  fsGroupChangePolicy: OnRootMismatch
  {{- end }}
  {{- end }}
  seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{- define "landcover.container.security" -}}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  runAsNonRoot: true
  capabilities: {drop: [ALL]}
  seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{/* (list $ owner): where pods may run, of `api` or of a pool. */}}
{{- define "landcover.pod.place" -}}
{{- $owner := index . 1 -}}
{{- with $owner.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with $owner.nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $owner.tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $owner.affinity }}
affinity: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $owner.topologySpreadConstraints }}
topologySpreadConstraints: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* (list $ "landcover.store"…): variables of every process of ours. */}}
{{- define "landcover.pod.env" -}}
{{ include "landcover.store.env" (list . "broker") }}
{{ include "landcover.store.env" (list . "cache") }}
{{- $files := list }}
{{- range .Values.models.files }}
{{- $files = append $files (printf "/data/models/%s@%s" .name .digest) }}
{{- end }}
- name: LANDCOVER_MODELS
  value: {{ ternary (toJson $files) "" (gt (len $files) 0) | quote }}
{{- with .Values.models.default }}
- name: LANDCOVER_DEFAULT_MODEL
  value: {{ . | quote }}
{{- end }}
- name: LANDCOVER_LOG_FORMAT
  value: {{ .Values.log.format }}
- name: LANDCOVER_LOG_LEVEL
  value: {{ .Values.log.level }}
{{- with .Values.tracing.endpoint }}
- name: OTEL_EXPORTER_OTLP_ENDPOINT
  value: {{ . | quote }}
{{- end }}
{{- end -}}

{{/* A map of variables, in the order of their names. Helm holds whole numbers as floats, and would write 6.7108864e+07. */}}
{{- define "landcover.env.map" -}}
{{- range $name, $value := . }}
- name: {{ $name }}
  value: {{ ternary (printf "%.15g" $value) (toString $value) (kindIs "float64" $value) | quote }}
{{- end }}
{{- end -}}

{{- define "landcover.pod.envFrom" -}}
{{- with .Values.scenes.credentialsSecret }}
envFrom:
  - secretRef: {name: {{ . }}}
{{- end }}
{{- end -}}

{{/* A task names its image by path, so API and workers see the same folders under the same names. */}}
{{- define "landcover.pod.mounts" -}}
- {name: tmp, mountPath: /tmp}
{{- if .Values.scenes.volume }}
- {name: scenes, mountPath: /data/scenes, readOnly: true}
{{- end }}
{{- if .Values.models.files }}
- name: models
  mountPath: /data/models
  readOnly: true
  {{- with coalesce .Values.models.pvc.subPath .Values.models.ociImage.subPath }}
  subPath: {{ . }}
  {{- end }}
{{- end }}
{{- range $name := list "broker" "cache" }}
{{- if (get $.Values $name).tls.caSecret }}
- {name: {{ $name }}-ca, mountPath: /etc/landcover/{{ $name }}-ca, readOnly: true}
{{- end }}
{{- end }}
{{- end -}}

{{/* (list $ tmpSize) */}}
{{- define "landcover.pod.volumes" -}}
{{- $ := index . 0 -}}
- name: tmp
  emptyDir: {sizeLimit: {{ index . 1 }}}
{{- with $.Values.scenes.volume }}
- name: scenes
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $.Values.models }}
{{- if .files }}
- name: models
  {{- if .pvc.claimName }}
  persistentVolumeClaim: {claimName: {{ .pvc.claimName }}, readOnly: true}
  {{- else if .ociImage.reference }}
  image: {reference: {{ .ociImage.reference | quote }}, pullPolicy: {{ .ociImage.pullPolicy }}}
  {{- else }}
  emptyDir: {sizeLimit: {{ .initContainer.sizeLimit }}}
  {{- end }}
{{- end }}
{{- end }}
{{- range $name := list "broker" "cache" }}
{{- with (get $.Values $name).tls.caSecret }}
- name: {{ $name }}-ca
  secret: {secretName: {{ . }}, items: [{key: ca.crt, path: ca.crt}]}
{{- end }}
{{- end }}
{{- end -}}

{{/* The container that writes the models, where there is one. Their digests are checked by whoever reads them. */}}
{{- define "landcover.pod.models" -}}
{{- with .Values.models.initContainer }}
{{- if .image }}
initContainers:
  - name: models
    image: {{ .image | quote }}
    imagePullPolicy: {{ $.Values.image.pullPolicy }}
    {{- with .command }}
    command: {{- toYaml . | nindent 6 }}
    {{- end }}
    {{- with .args }}
    args: {{- toYaml . | nindent 6 }}
    {{- end }}
    {{- with .env }}
    env: {{- toYaml . | nindent 6 }}
    {{- end }}
    {{- with .credentialsSecret }}
    envFrom:
      - secretRef: {name: {{ . }}}
    {{- end }}
    resources:
      requests: {cpu: 100m, memory: 128Mi}
      limits: {memory: 512Mi}
    {{- include "landcover.container.security" $ | nindent 4 }}
    volumeMounts:
      - {name: models, mountPath: /data/models}
      - {name: tmp, mountPath: /tmp}
{{- end }}
{{- end }}
{{- end -}}

{{/* What the release's secret holds, as JSON. */}}
{{- define "landcover.secret.data" -}}
{{- $data := dict -}}
{{- range $name := list "broker" "cache" -}}
{{- with include "landcover.store.url" (list $ $name) }}{{ $_ := set $data (printf "%s-url" $name) . }}{{ end -}}
{{- end -}}
{{- with (urlParse .Values.broker.url).userinfo -}}
{{- with regexReplaceAll ":.*$" . "" }}{{ $_ := set $data "broker-username" . }}{{ end -}}
{{- with regexReplaceAll "^[^:]*:?" . "" }}{{ $_ := set $data "broker-password" . }}{{ end -}}
{{- end -}}
{{- with .Values.database.url }}{{ $_ := set $data "database-url" . }}{{ end -}}
{{- toJson $data -}}
{{- end -}}

{{/* Pods start anew when what they read at start has changed: not with the chart's version, which labels tell. */}}
{{- define "landcover.pod.checksum" -}}
landcover/settings: {{ include "landcover.secret.data" . | sha256sum | trunc 16 | quote }}
{{- end -}}
