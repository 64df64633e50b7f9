{{- define "martlet.selector" -}}
app.kubernetes.io/name: martlet
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "martlet.labels" -}}
{{ include "martlet.selector" . }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}

{{- define "martlet.secret" -}}
{{ default (printf "%s-config" .Release.Name) .Values.existingSecret }}
{{- end }}

{{- define "martlet.toml" -}}
hostname = {{ .Values.hostname | quote }}
data = "/var/lib/martlet"
{{ if .Values.tls.secretName }}
[tls]
certificate = "/etc/martlet-tls/tls.crt"
key = "/etc/martlet-tls/tls.key"
{{ else }}
[tls.acme]
enabled = true
email = {{ .Values.tls.email | quote }}
{{ end }}
[store]
engine = "postgres"
url = {{ required "database.url is missing" .Values.database.url | quote }}
connections = {{ .Values.database.connections }}
cache = {{ .Values.store.cache | quote }}
{{ if .Values.objects.endpoint }}
[blobs]
engine = "s3"
endpoint = {{ .Values.objects.endpoint | quote }}
region = {{ .Values.objects.region | quote }}
bucket = {{ required "objects.bucket is missing" .Values.objects.bucket | quote }}
prefix = {{ .Values.objects.prefix | quote }}
access_key = {{ .Values.objects.accessKey | quote }}
secret_key = {{ .Values.objects.secretKey | quote }}
cache = {{ .Values.objects.cache | quote }}
{{ end }}
# The name of the pod is that of the node.
[cluster]
lease = {{ .Values.lease | quote }}
leave = {{ .Values.leave | quote }}
{{ range .Values.service.ports }}
[[listen]]
protocol = {{ .protocol | quote }}
address = ":{{ .target }}"
{{- if and $.Values.proxies (ne .protocol "http") (ne .protocol "https") }}
proxies = [{{ range $i, $n := $.Values.proxies }}{{ if $i }}, {{ end }}{{ $n | quote }}{{ end }}]
{{- end }}
{{ end }}
{{ .Values.config }}
{{- end }}
