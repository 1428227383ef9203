{{/* Combinations that cannot work, each with a sentence; all are told at once. */}}
{{- define "notifier.validate" -}}
{{- $values := .Values -}}
{{- $rabbitmq := $values.rabbitmq -}}
{{- $isShared := include "notifier.isShared" . -}}
{{- $said := list -}}
{{- if and (not $values.access.issuers) (not $values.access.issuersSecret.name) -}}
{{- $said = append $said "nobody could enter: set access.issuers, or access.issuersSecret.name, to whose tokens are accepted" -}}
{{- end -}}
{{- if and $values.access.issuers $values.access.issuersSecret.name -}}
{{- $said = append $said "access.issuers and access.issuersSecret.name are two answers to one question: set one of them" -}}
{{- end -}}
{{- range $issuer := $values.access.issuers -}}
{{- range (default (list) $issuer.keys) -}}
{{- if hasKey . "secret" -}}
{{- $said = append $said "access.issuers holds a secret, which anybody who reads the ConfigMap would have: name a file of access.keysSecret as secret_file" -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if and $isShared (eq (dig "access" "tickets" "" $values.settings) "on") (not $values.access.ticketsSecret.name) -}}
{{- $said = append $said "settings.access.tickets is on, and replicas need the same secrets for that: name them in access.ticketsSecret.name" -}}
{{- end -}}
{{- if and $values.autoscaling.enabled $values.keda.enabled -}}
{{- $said = append $said "autoscaling and keda would both set the replicas: enable one of them" -}}
{{- end -}}
{{- if and (not $isShared) (include "notifier.scales" .) -}}
{{- $said = append $said "autoscaling and keda need a journal that replicas share: set rabbitmq.mode, with rabbitmq.journal" -}}
{{- end -}}
{{- if and (not $isShared) (gt (int $values.replicaCount) 1) -}}
{{- $said = append $said "replicaCount over 1 needs a journal that replicas share, else each would deliver a part: set rabbitmq.mode, with rabbitmq.journal" -}}
{{- end -}}
{{- if gt (int $values.autoscaling.minReplicas) (int $values.autoscaling.maxReplicas) -}}
{{- $said = append $said "autoscaling.minReplicas is over autoscaling.maxReplicas" -}}
{{- end -}}
{{- if and $values.keda.enabled (not $values.keda.serverAddress) -}}
{{- $said = append $said "keda needs keda.serverAddress, the address of Prometheus" -}}
{{- end -}}
{{- if and (ne $rabbitmq.mode "none") (not $rabbitmq.journal) (not $rabbitmq.queue) -}}
{{- $said = append $said "rabbitmq.journal and rabbitmq.queue are both false: nothing is left to do for it, so set rabbitmq.mode to none" -}}
{{- end -}}
{{- if and (has $rabbitmq.mode (list "external" "development")) (not $rabbitmq.existingSecret) -}}
{{- $said = append $said (printf "rabbitmq.mode %s needs rabbitmq.existingSecret: this chart makes no passwords" $rabbitmq.mode) -}}
{{- end -}}
{{- if and (ne $values.redis.mode "none") (not $values.redis.existingSecret) -}}
{{- $said = append $said (printf "redis.mode %s needs redis.existingSecret: this chart makes no passwords" $values.redis.mode) -}}
{{- end -}}
{{- if and $values.ingress.enabled (not $values.ingress.hosts) -}}
{{- $said = append $said "ingress needs at least one name in ingress.hosts" -}}
{{- end -}}
{{- if and $values.httpRoute.enabled (not $values.httpRoute.parentRefs) -}}
{{- $said = append $said "httpRoute needs at least one gateway in httpRoute.parentRefs" -}}
{{- end -}}
{{- if and $values.networkPolicy.enabled (not $values.networkPolicy.publicFrom) -}}
{{- $said = append $said "networkPolicy would keep everybody out: name who may reach the public port in networkPolicy.publicFrom" -}}
{{- end -}}
{{- if and $values.networkPolicy.enabled (eq $rabbitmq.mode "external") (not $values.networkPolicy.brokerTo) -}}
{{- $said = append $said "networkPolicy would keep notifier from its broker: name it in networkPolicy.brokerTo" -}}
{{- end -}}
{{- if and $values.networkPolicy.enabled (eq $values.redis.mode "external") (not $values.networkPolicy.redisTo) -}}
{{- $said = append $said "networkPolicy would keep notifier from its Redis: name it in networkPolicy.redisTo" -}}
{{- end -}}
{{- range $issuer := $values.access.issuers -}}
{{- if and $values.networkPolicy.enabled (or $issuer.jwks_url (not $issuer.keys)) (not $values.networkPolicy.issuersTo) -}}
{{- $said = append $said (printf "networkPolicy would keep notifier from the keys of %s: name where they are in networkPolicy.issuersTo" $issuer.issuer) -}}
{{- end -}}
{{- end -}}
{{- if and $values.monitoring.serviceMonitor.enabled $values.monitoring.podMonitor.enabled -}}
{{- $said = append $said "monitoring.serviceMonitor and monitoring.podMonitor would count everything twice: enable one of them" -}}
{{- end -}}
{{- if and $values.smoke.job.enabled (not $values.smoke.tokenSecret.name) -}}
{{- $said = append $said "smoke.job needs a token to send with: set smoke.tokenSecret.name" -}}
{{- end -}}
{{- $taken := keys (include "notifier.environment" . | fromYaml) -}}
{{- if include "notifier.composes" . -}}{{- $taken = append $taken (include "notifier.urlSetting" .) -}}{{- end -}}
{{- if eq $values.redis.mode "development" -}}{{- $taken = append $taken "NOTIFIER_COUNTS__URL" -}}{{- end -}}
{{- range $values.extraEnv -}}
{{- if or (has .name $taken) (has (printf "%s_FILE" .name) $taken) (has (trimSuffix "_FILE" .name) $taken) -}}
{{- $said = append $said (printf "extraEnv sets %s, which this chart sets from its values" .name) -}}
{{- end -}}
{{- end -}}
{{- if $said -}}
{{- fail (printf "\n\nnotifier cannot work with these values:\n  * %s\n" (join "\n  * " (uniq $said))) -}}
{{- end -}}
{{- end -}}
