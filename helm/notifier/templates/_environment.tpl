{{/* The environment: what is no secret goes into a ConfigMap, secrets are mounted as files or referred to. */}}

{{/* YAML reads numbers as floats, which would be written 2.147483648e+09. */}}
{{- define "notifier.text" -}}
{{- if or (kindIs "slice" .) (kindIs "map" .) -}}{{ toJson . }}
{{- else if and (kindIs "float64" .) (eq (floor .) .) -}}{{ int64 . }}
{{- else -}}{{ toString . }}
{{- end -}}
{{- end -}}

{{- define "notifier.environment" -}}
{{- $values := .Values -}}
{{- $names := dict
  "NOTIFIER_HTTP__HOST" $values.listenHost
  "NOTIFIER_HTTP__PORT" "8000"
  "NOTIFIER_HTTP__DRAIN_DELAY_SECONDS" (include "notifier.text" $values.drain.delaySeconds)
  "NOTIFIER_HTTP__DRAIN_WINDOW_SECONDS" (include "notifier.text" $values.drain.windowSeconds)
  "NOTIFIER_OPERATIONS__HOST" $values.listenHost
  "NOTIFIER_OPERATIONS__PORT" "9000" -}}
{{- if $values.access.issuersSecret.name -}}
{{- $_ := set $names "NOTIFIER_ACCESS__ISSUERS_FILE" "/etc/notifier/access/issuers.json" -}}
{{- else if $values.access.issuers -}}
{{- $_ := set $names "NOTIFIER_ACCESS__ISSUERS" (toJson $values.access.issuers) -}}
{{- end -}}
{{- if $values.access.ticketsSecret.name -}}
{{- $_ := set $names "NOTIFIER_ACCESS__TICKET_SECRETS_FILE" "/etc/notifier/tickets/secrets" -}}
{{- end -}}
{{- if ne $values.rabbitmq.mode "none" -}}
{{- if not (include "notifier.composes" .) -}}
{{- $_ := set $names (printf "%s_FILE" (include "notifier.urlSetting" .)) "/etc/notifier/rabbitmq/url" -}}
{{- end -}}
{{- if not $values.rabbitmq.queue -}}
{{- $_ := set $names "NOTIFIER_QUEUE__URL" "off" -}}
{{- end -}}
{{- end -}}
{{- if eq $values.redis.mode "external" -}}
{{- $_ := set $names "NOTIFIER_COUNTS__URL_FILE" "/etc/notifier/redis/url" -}}
{{- end -}}
{{- range $group, $settings := $values.settings -}}
{{- range $name, $value := $settings -}}
{{- $_ := set $names (printf "NOTIFIER_%s__%s" (upper $group) (upper $name)) (include "notifier.text" $value) -}}
{{- end -}}
{{- end -}}
{{ toYaml $names }}
{{- end -}}

{{/* The kubelet puts the earlier variables into the last one, so the URL stands in no object. */}}
{{- define "notifier.composedUrl" -}}
{{- $rabbitmq := .Values.rabbitmq -}}
{{- $isOurs := eq $rabbitmq.mode "development" -}}
{{- $secret := include "notifier.rabbitmqSecret" . -}}
{{- range ternary (list "username" "password") (list "host" "port" "username" "password") $isOurs }}
- name: RABBITMQ_{{ upper . }}
  valueFrom:
    secretKeyRef:
      name: {{ $secret }}
      key: {{ . }}
{{- end }}
{{- $address := ternary (printf "%s:5672" (include "notifier.rabbitmqName" .)) "$(RABBITMQ_HOST):$(RABBITMQ_PORT)" $isOurs }}
{{- $query := empty $rabbitmq.compose.query | ternary "" (printf "?%s" $rabbitmq.compose.query) }}
- name: {{ include "notifier.urlSetting" . }}
  value: {{ printf "%s://$(RABBITMQ_USERNAME):$(RABBITMQ_PASSWORD)@%s/%s%s" $rabbitmq.compose.scheme $address $rabbitmq.compose.virtualHost $query | quote }}
{{- end -}}

{{/* The same of the Redis that this chart starts. */}}
{{- define "notifier.redisUrl" -}}
- name: REDIS_PASSWORD
  valueFrom:
    secretKeyRef:
      name: {{ .Values.redis.existingSecret }}
      key: password
- name: NOTIFIER_COUNTS__URL
  value: redis://:$(REDIS_PASSWORD)@{{ include "notifier.redisName" . }}:6379/0
{{- end -}}

{{/* (volumes and mounts) of the secrets that are files. */}}
{{- define "notifier.volumes" -}}
- name: tmp
  emptyDir:
    sizeLimit: {{ .Values.tmpSizeLimit }}
{{- with .Values.access.issuersSecret }}
{{- if .name }}
- name: access
  secret:
    secretName: {{ .name }}
    items: [{key: {{ .key | quote }}, path: issuers.json}]
{{- end }}
{{- end }}
{{- with .Values.access.keysSecret.name }}
- name: keys
  secret:
    secretName: {{ . }}
{{- end }}
{{- with .Values.access.ticketsSecret }}
{{- if .name }}
- name: tickets
  secret:
    secretName: {{ .name }}
    items: [{key: {{ .key | quote }}, path: secrets}]
{{- end }}
{{- end }}
{{- if and (ne .Values.rabbitmq.mode "none") (not (include "notifier.composes" .)) }}
- name: rabbitmq
  secret:
    secretName: {{ include "notifier.rabbitmqSecret" . }}
    items: [{key: {{ .Values.rabbitmq.urlKey | quote }}, path: url}]
{{- end }}
{{- if eq .Values.redis.mode "external" }}
- name: redis
  secret:
    secretName: {{ .Values.redis.existingSecret }}
    items: [{key: {{ .Values.redis.urlKey | quote }}, path: url}]
{{- end }}
{{- with .Values.extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* Folders, not single files: a file mounted by subPath would never change. */}}
{{- define "notifier.volumeMounts" -}}
- name: tmp
  mountPath: /tmp
{{- if .Values.access.issuersSecret.name }}
- name: access
  mountPath: /etc/notifier/access
  readOnly: true
{{- end }}
{{- if .Values.access.keysSecret.name }}
- name: keys
  mountPath: /etc/notifier/keys
  readOnly: true
{{- end }}
{{- if .Values.access.ticketsSecret.name }}
- name: tickets
  mountPath: /etc/notifier/tickets
  readOnly: true
{{- end }}
{{- if and (ne .Values.rabbitmq.mode "none") (not (include "notifier.composes" .)) }}
- name: rabbitmq
  mountPath: /etc/notifier/rabbitmq
  readOnly: true
{{- end }}
{{- if eq .Values.redis.mode "external" }}
- name: redis
  mountPath: /etc/notifier/redis
  readOnly: true
{{- end }}
{{- with .Values.extraVolumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end -}}
