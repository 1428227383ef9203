{{/* The pod that opens a session, sends, and sees it arrive: of `helm test`, and of the Job. */}}
{{- define "notifier.smoke" -}}
restartPolicy: Never
serviceAccountName: {{ include "notifier.serviceAccountName" . }}
automountServiceAccountToken: false
enableServiceLinks: false
securityContext:
  {{- toYaml .Values.podSecurityContext | nindent 2 }}
{{- with .Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
containers:
  - name: smoke
    image: {{ include "notifier.image" . | quote }}
    imagePullPolicy: {{ .Values.image.pullPolicy }}
    command:
      - notifier
      - smoke
      - --url
      - http://{{ include "notifier.fullname" . }}:{{ .Values.service.port }}
      - --token-file
      - /etc/notifier/smoke/token
      - --within-seconds
      - {{ .Values.smoke.timeoutSeconds | quote }}
    resources:
      {{- toYaml .Values.smoke.resources | nindent 6 }}
    securityContext:
      {{- toYaml .Values.securityContext | nindent 6 }}
    volumeMounts:
      - name: token
        mountPath: /etc/notifier/smoke
        readOnly: true
volumes:
  - name: token
    secret:
      secretName: {{ .Values.smoke.tokenSecret.name }}
      items: [{key: {{ .Values.smoke.tokenSecret.key | quote }}, path: token}]
{{- end -}}
