{{/* What follows from the values. A claim is "true" or empty. */}}

{{/* Several replicas meet in the journal, which only RabbitMQ shares. */}}
{{- define "notifier.isShared" -}}
{{- if and (ne .Values.rabbitmq.mode "none") .Values.rabbitmq.journal -}}true{{- end -}}
{{- end -}}

{{- define "notifier.scales" -}}
{{- if or .Values.autoscaling.enabled .Values.keda.enabled -}}true{{- end -}}
{{- end -}}

{{- define "notifier.leastReplicas" -}}
{{- ternary .Values.autoscaling.minReplicas .Values.replicaCount (eq (include "notifier.scales" .) "true") | int -}}
{{- end -}}

{{- define "notifier.mostReplicas" -}}
{{- ternary .Values.autoscaling.maxReplicas .Values.replicaCount (eq (include "notifier.scales" .) "true") | int -}}
{{- end -}}

{{/* Drain delay and window, uvicorn's own time-out (GRACE_SECONDS in notifier/server.py), and 5 seconds to spare. */}}
{{- define "notifier.graceSeconds" -}}
{{- add (ceil (addf .Values.drain.delaySeconds .Values.drain.windowSeconds)) 3 5 -}}
{{- end -}}

{{- define "notifier.rabbitmqName" -}}{{ include "notifier.fullname" . }}-rabbitmq{{- end -}}

{{- define "notifier.rabbitmqSecret" -}}
{{- if and (eq .Values.rabbitmq.mode "operator") (not .Values.rabbitmq.existingSecret) -}}
{{ include "notifier.rabbitmqName" . }}-default-user
{{- else -}}
{{ .Values.rabbitmq.existingSecret }}
{{- end -}}
{{- end -}}

{{/* The secret of the development node has no URL. */}}
{{- define "notifier.composes" -}}
{{- if or (eq .Values.rabbitmq.mode "development") (and (ne .Values.rabbitmq.mode "none") .Values.rabbitmq.compose.enabled) -}}true{{- end -}}
{{- end -}}

{{- define "notifier.redisName" -}}{{ include "notifier.fullname" . }}-redis{{- end -}}

{{/* The setting that takes the URL of the broker. */}}
{{- define "notifier.urlSetting" -}}
{{- ternary "NOTIFIER_JOURNAL__URL" "NOTIFIER_QUEUE__URL" .Values.rabbitmq.journal -}}
{{- end -}}
