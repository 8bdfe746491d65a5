{{- /* The name of everything: of the release, if that speaks of natter. Short enough for a pod's name, and without dots:
node.name, which is the pod's, takes none. */}}
{{- define "natter.name" -}}
{{- $name := ternary .Release.Name (printf "%s-natter" .Release.Name) (contains "natter" .Release.Name) -}}
{{- $name | replace "." "-" | trunc 48 | trimSuffix "-" -}}
{{- end }}

{{- define "natter.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}

{{- define "natter.labels" -}}
{{ include "natter.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{- define "natter.selector" -}}
app.kubernetes.io/name: natter
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- /* What picks nodes, and not the job that migrates. */}}
{{- define "natter.nodes" -}}
{{ include "natter.selector" . }}
app.kubernetes.io/component: node
{{- end }}

{{- /* How long a node may take to end: drain_min_secs, drain_secs, 20 s at most for the rest (`node::ENDING`), and some to spare. */}}
{{- define "natter.grace" -}}
{{- $timing := .Values.config.timing | default dict -}}
{{- $drain := add ($timing.drain_min_secs | default 0) (dig "drain_secs" 10 $timing) 20 -}}
{{- if .Values.terminationGracePeriodSeconds -}}
{{- if lt (int .Values.terminationGracePeriodSeconds) (int $drain) -}}
{{- fail (printf "terminationGracePeriodSeconds: a node may take %d s to end and would be killed" $drain) -}}
{{- end -}}
{{- .Values.terminationGracePeriodSeconds -}}
{{- else -}}
{{- add $drain 10 -}}
{{- end -}}
{{- end }}

{{- /* The whole configuration: what `config` says, and what the chart itself knows. */}}
{{- define "natter.config" -}}
{{- $config := deepCopy .Values.config -}}
{{- range $key := list "nats.password" "nats.token" "store.scylla.password" "auth.hs256_secret" "auth.hs256_previous_secret" "sealing.master_key" -}}
{{- include "natter.no-secret" (dict "config" $config "key" $key) -}}
{{- end -}}
{{- range $name, $_ := $config.webhooks -}}
{{- include "natter.no-secret" (dict "config" $config "key" (printf "webhooks.%s.secret" $name)) -}}
{{- end -}}
{{- $own := dict "http.listen" "0.0.0.0:8080" "store.kind" "scylla" "node.killed_after_secs" (include "natter.grace" . | int) -}}
{{- range $key, $from := .Values.secretFiles -}}
{{- if kindIs "slice" $from -}}
{{- $paths := list -}}
{{- range $i, $_ := $from -}}{{- $paths = append $paths (printf "/etc/natter/secrets/%s.%d" $key $i) -}}{{- end -}}
{{- $_ := set $own $key $paths -}}
{{- else if $from -}}{{- $_ := set $own $key (printf "/etc/natter/secrets/%s" $key) -}}{{- end -}}
{{- end -}}
{{- if dig "auth" "jwks_url" "" $config -}}
{{- $_ := set $own "auth.jwks_copy_file" "/var/lib/natter/jwks.json" -}}
{{- end -}}
{{- range $key, $value := $own -}}
{{- $path := splitList "." $key -}}
{{- $at := $config -}}
{{- range initial $path -}}
{{- if not (get $at .) -}}{{- $_ := set $at . dict -}}{{- end -}}
{{- $at = get $at . -}}
{{- end -}}
{{- if hasKey $at (last $path) -}}{{- fail (printf "config.%s: the chart sets it" $key) -}}{{- end -}}
{{- $_ := set $at (last $path) $value -}}
{{- end -}}
{{- include "natter.toml" (dict "table" $config "path" "") -}}
{{- end }}

{{- /* A ConfigMap can be read by many. */}}
{{- define "natter.no-secret" -}}
{{- $at := .config -}}
{{- range splitList "." .key -}}{{- $at = ternary (get (default dict $at) .) "" (kindIs "map" $at) -}}{{- end -}}
{{- if $at -}}
{{- fail (printf "config.%s: a secret would stand in a ConfigMap: put it into a Secret, and that under secretFiles as %s_file" .key .key) -}}
{{- end -}}
{{- end }}

{{- /* What a pod must start again for: all but what SIGHUP takes. */}}
{{- define "natter.restart" -}}
{{- $config := omit .Values.config "auth" "services" -}}
{{- $_ := set $config "log" (omit (default dict $config.log) "filter") -}}
{{- include "natter.config" (dict "Values" (set (omit .Values "config") "config" $config)) | sha256sum -}}
{{- end }}

{{- /* A table as TOML. Helm's own toToml makes 5.0 of 5; JSON's texts, numbers and lists are TOML's too. */}}
{{- define "natter.toml" -}}
{{- $path := .path -}}
{{- range $key, $value := .table -}}
{{- if not (or (kindIs "map" $value) (kindIs "invalid" $value)) }}
{{ $key }} = {{ toJson $value }}
{{- end -}}
{{- end -}}
{{- range $key, $value := .table -}}
{{- if kindIs "map" $value -}}
{{- $inner := ternary $key (printf "%s.%s" $path $key) (eq $path "") }}
[{{ $inner }}]
{{- include "natter.toml" (dict "table" $value "path" $inner) }}
{{ end -}}
{{- end -}}
{{- end }}

{{- /* What a container of natter may do: nothing but run. */}}
{{- define "natter.pod-security" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
# The group of the mounted secrets.
fsGroup: 65532
seccompProfile: { type: RuntimeDefault }
{{- end }}

{{- define "natter.container-security" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: { drop: [ALL] }
{{- end }}

{{- define "natter.environment" -}}
- { name: NATTER_CONFIG, value: /etc/natter/natter.toml }
{{- end }}

{{- define "natter.mounts" -}}
# Whole folders: what changes in the cluster changes here, and SIGHUP reads it.
- { name: config, mountPath: /etc/natter, readOnly: true }
# The last good key set of auth.jwks_url; nothing else is written.
- { name: state, mountPath: /var/lib/natter }
{{- end }}

{{- /* One volume of the configuration, from the ConfigMap of that name, and of every secret but those `without`: their keys
begin so. */}}
{{- define "natter.volumes" -}}
{{- $without := .without | default "-" -}}
- name: config
  projected:
    # 0440
    defaultMode: 288
    sources:
      - configMap:
          name: {{ .configMap }}
          items: [{ key: natter.toml, path: natter.toml }]
      {{- range $key, $from := .Values.secretFiles }}
      {{- if and $from (not (hasPrefix $without $key)) }}
      {{- if kindIs "slice" $from }}
      {{- range $i, $one := $from }}
      - secret:
          name: {{ $one.secret }}
          items: [{ key: {{ $one.key | quote }}, path: secrets/{{ $key }}.{{ $i }} }]
      {{- end }}
      {{- else }}
      - secret:
          name: {{ $from.secret }}
          items: [{ key: {{ $from.key | quote }}, path: secrets/{{ $key }} }]
      {{- end }}
      {{- end }}
      {{- end }}
- name: state
  emptyDir: { sizeLimit: 16Mi }
{{- end }}

{{- /* The ports in a list of addresses, without doubles; `default` where one has none. */}}
{{- define "natter.ports" -}}
{{- $ports := list -}}
{{- $default := .default -}}
{{- range .addresses -}}
{{- $port := regexFind ":[0-9]+/?$" . | trimPrefix ":" | trimSuffix "/" | default $default -}}
{{- $ports = append $ports (int $port) -}}
{{- end -}}
{{- range uniq $ports }}
- { protocol: TCP, port: {{ . }} }
{{- end -}}
{{- end }}

{{- /* To whom nodes and the job that migrates may speak. */}}
{{- define "natter.egress" -}}
{{- $policy := .Values.networkPolicy -}}
{{- $config := .Values.config -}}
{{- $nats := dig "nats" "urls" (list "nats://127.0.0.1:4222") $config -}}
{{- range dig "nats" "cells" list $config }}{{ $nats = concat $nats . }}{{ end -}}
- ports: [{ protocol: UDP, port: 53 }, { protocol: TCP, port: 53 }]
  {{- with $policy.dns }}
  to: {{- toYaml . | nindent 4 }}
  {{- end }}
- ports: {{- include "natter.ports" (dict "addresses" $nats "default" "4222") | trim | nindent 4 }}
  {{- with $policy.nats }}
  to: {{- toYaml . | nindent 4 }}
  {{- end }}
- ports: {{- include "natter.ports" (dict "addresses" (dig "store" "scylla" "contact_points" list $config) "default" "9042") | trim | nindent 4 }}
  {{- with $policy.store }}
  to: {{- toYaml . | nindent 4 }}
  {{- end }}
{{- /* The identity provider and webhooks are asked wherever they are. */}}
{{- $urls := list -}}
{{- with dig "auth" "jwks_url" "" $config }}{{ $urls = append $urls . }}{{ end -}}
{{- range dig "webhooks" dict $config }}{{ with .url }}{{ $urls = append $urls . }}{{ end }}{{ end -}}
{{- range uniq $urls }}
- ports: {{- include "natter.ports" (dict "addresses" (list (regexFind "^[a-z]+://[^/]+" .)) "default" (ternary "443" "80" (hasPrefix "https:" .))) | trim | nindent 4 }}
{{- end }}
{{- with $policy.egress }}
{{ toYaml . }}
{{- end }}
{{- end }}
