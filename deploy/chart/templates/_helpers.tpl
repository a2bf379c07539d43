{{/* Grows faster than it shrinks; for the HPA and for KEDA's. */}}
{{- define "remora.behavior" -}}
scaleUp:
  # The load is steady already, and rises by itself before the rush of every day.
  stabilizationWindowSeconds: 0
  selectPolicy: Max
  policies:
    - type: Percent
      value: 100
      periodSeconds: 30
    - type: Pods
      value: 4
      periodSeconds: 30
scaleDown:
  # A model that left memory with its pod has to be loaded again elsewhere.
  stabilizationWindowSeconds: 300
  selectPolicy: Max
  policies:
    - type: Percent
      value: 25
      periodSeconds: 60
    - type: Pods
      value: 1
      periodSeconds: 60
{{- end }}
