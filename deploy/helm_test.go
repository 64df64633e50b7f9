package deploy

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"text/template"
	"time"

	"go.yaml.in/yaml/v3"
)

const chart = "helm/martlet"

// chosen are the values that the chart cannot know, as a person would give them.
func chosen() map[string]any {
	return map[string]any{
		"database": map[string]any{"url": "postgres://martlet:5ecret@pg-0.pg,pg-1.pg/martlet"},
		"objects": map[string]any{"endpoint": "https://s3.example.org", "bucket": "martlet-bodies",
			"accessKey": "martlet", "secretKey": "5ecret"},
		"tls":     map[string]any{"secretName": "mail-tls"},
		"proxies": []any{"10.0.0.0/8", "fd00::/8"},
		"config":  "[limits]\nmessage_size = \"30MB\"\n",
	}
}

// render does with the chart what Helm does, as far as its templates go.
func render(t *testing.T, values map[string]any) map[string]string {
	t.Helper()
	base := document[map[string]any](t, "values.yaml", read(t, chart+"/values.yaml"))
	meta := document[map[string]any](t, "Chart.yaml", read(t, chart+"/Chart.yaml"))
	data := map[string]any{"Values": merge(base, values),
		"Chart":   map[string]any{"Name": meta["name"], "Version": meta["version"], "AppVersion": meta["appVersion"]},
		"Release": map[string]any{"Name": "mail", "Namespace": "default", "Service": "Helm"}}
	all := template.New("").Option("missingkey=error")
	all.Funcs(template.FuncMap{
		"include": func(name string, with any) (string, error) {
			var b strings.Builder
			err := all.ExecuteTemplate(&b, name, with)
			return b.String(), err
		},
		"nindent": func(n int, s string) string {
			pad := strings.Repeat(" ", n)
			return "\n" + pad + strings.ReplaceAll(s, "\n", "\n"+pad)
		},
		"toYaml": func(v any) (string, error) {
			b, err := yaml.Marshal(v)
			return strings.TrimSuffix(string(b), "\n"), err
		},
		"quote":     func(v any) string { return fmt.Sprintf("%q", fmt.Sprint(v)) },
		"sha256sum": func(s string) string { return fmt.Sprintf("%x", sha256.Sum256([]byte(s))) },
		"default": func(usual, v any) any {
			if v == nil || reflect.ValueOf(v).IsZero() {
				return usual
			}
			return v
		},
		"required": func(why string, v any) (any, error) {
			if v == nil || reflect.ValueOf(v).IsZero() {
				return nil, fmt.Errorf("%s", why)
			}
			return v, nil
		},
	})
	paths, err := filepath.Glob(chart + "/templates/*")
	if err != nil || len(paths) < 6 {
		t.Fatal(paths, err)
	}
	for _, p := range paths {
		template.Must(all.New(filepath.Base(p)).Parse(read(t, p)))
	}
	out := map[string]string{}
	for _, p := range paths {
		name := filepath.Base(p)
		if strings.HasPrefix(name, "_") {
			continue
		}
		var b strings.Builder
		if err := all.ExecuteTemplate(&b, name, data); err != nil {
			t.Fatal(err)
		}
		out[name] = b.String()
	}
	return out
}

// merge lays values over the chart's.
func merge(under, over map[string]any) map[string]any {
	out := map[string]any{}
	for k, v := range under {
		out[k] = v
	}
	for k, v := range over {
		a, both := out[k].(map[string]any)
		if b, ok := v.(map[string]any); ok && both {
			v = merge(a, b)
		}
		out[k] = v
	}
	return out
}

// objects parses what was rendered, by kind and name.
func objects(t *testing.T, rendered map[string]string) map[string]map[string]any {
	t.Helper()
	out := map[string]map[string]any{}
	for name, text := range rendered {
		if strings.HasSuffix(name, ".txt") {
			continue
		}
		d := yaml.NewDecoder(strings.NewReader(text))
		for {
			var o map[string]any
			if d.Decode(&o) != nil {
				break
			}
			if o != nil {
				out[fmt.Sprint(o["kind"], "/", at(o, "metadata", "name"))] = o
			}
		}
	}
	return out
}

// at goes down into a document.
func at(v any, path ...any) any {
	for _, p := range path {
		switch p := p.(type) {
		case string:
			m, _ := v.(map[string]any)
			v = m[p]
		case int:
			l, _ := v.([]any)
			if p >= len(l) {
				return nil
			}
			v = l[p]
		}
	}
	return v
}

func TestChart(t *testing.T) {
	all := objects(t, render(t, chosen()))
	if len(all) != 5 {
		t.Fatalf("%d objects", len(all))
	}
	toml, _ := at(all["Secret/mail-config"], "stringData", "martlet.toml").(string)
	cfg := parse(t, "the chart's martlet.toml", toml)
	ports := listeners(t, cfg)
	if !ports["9993"] || ports["8080"] || cfg.Limits.MessageSize != 30_000_000 {
		t.Errorf("%v, %v", ports, cfg.Limits.MessageSize)
	}
	set := all["StatefulSet/mail"]
	pod := at(set, "spec", "template", "spec")
	box := at(pod, "containers", 0)
	names := map[string]bool{}
	for _, p := range at(box, "ports").([]any) {
		if _, ok := ports[fmt.Sprint(at(p, "containerPort"))]; !ok {
			t.Errorf("nobody listens on %v", p)
		}
		names[at(p, "name").(string)] = true
	}
	for _, service := range []string{"Service/mail", "Service/mail-nodes"} {
		for _, p := range at(all[service], "spec", "ports").([]any) {
			if !names[at(p, "targetPort").(string)] {
				t.Errorf("%s: %v leads nowhere", service, p)
			}
		}
		if !reflect.DeepEqual(at(all[service], "spec", "selector"), at(set, "spec", "selector", "matchLabels")) {
			t.Errorf("%s selects other pods", service)
		}
	}
	if !reflect.DeepEqual(at(all["PodDisruptionBudget/mail"], "spec", "selector"), at(set, "spec", "selector")) {
		t.Error("the budget is of other pods")
	}
	if at(set, "spec", "serviceName") != "mail-nodes" {
		t.Error("the pods have no names")
	}
	// What is asked is answered by the program.
	served := read(t, "../cmd/martlet/http.go")
	for probe, path := range map[string]string{"readinessProbe": "/readyz", "livenessProbe": "/healthz", "startupProbe": "/healthz"} {
		if got := at(box, probe, "httpGet", "path"); got != path || !strings.Contains(served, `"GET `+path+`"`) {
			t.Errorf("%s asks %v", probe, got)
		}
		if !names[fmt.Sprint(at(box, probe, "httpGet", "port"))] {
			t.Errorf("%s asks at no port", probe)
		}
	}
	if grace := time.Duration(at(pod, "terminationGracePeriodSeconds").(int)) * time.Second; time.Duration(cfg.Cluster.Leave)+5*time.Second > grace {
		t.Errorf("a node is killed before it has drained, which takes %s and 5 s", cfg.Cluster.Leave)
	}
	unready := at(box, "readinessProbe", "periodSeconds").(int) * at(box, "readinessProbe", "failureThreshold").(int)
	if time.Duration(cfg.Cluster.Leave) <= time.Duration(unready)*time.Second {
		t.Error("a node is gone before anybody sees that it leaves")
	}
	mounts := fmt.Sprint(at(box, "volumeMounts"))
	for _, folder := range []string{string(cfg.Data), filepath.Dir(string(cfg.TLS.Certificate)), "/etc/martlet"} {
		if !strings.Contains(mounts, "mountPath:"+folder+" ") {
			t.Errorf("%s is not mounted: %s", folder, mounts)
		}
	}
}

// Values that are left out leave out what depends on them, and what is needed is asked for.
func TestChartVariants(t *testing.T) {
	v := chosen()
	delete(v, "tls")
	delete(v, "proxies")
	toml := at(objects(t, render(t, v))["Secret/mail-config"], "stringData", "martlet.toml").(string)
	cfg := parse(t, "the chart's martlet.toml with ACME", toml)
	if !cfg.TLS.ACME.Enabled || listeners(t, cfg)["2525"] {
		t.Error(toml)
	}
	all := objects(t, render(t, map[string]any{"existingSecret": "mine"})) // nothing else is needed
	if all["Secret/mail-config"] != nil || !strings.Contains(fmt.Sprint(all["StatefulSet/mail"]), "secretName:mine") {
		t.Error("the secret that is there is not used")
	}
}

// Helm itself makes the same of the chart, where it is installed.
func TestHelmAgrees(t *testing.T) {
	helm, err := exec.LookPath("helm")
	if err != nil {
		t.Skip("helm is not installed")
	}
	b, err := json.Marshal(chosen()) // JSON is YAML
	if err != nil {
		t.Fatal(err)
	}
	values := filepath.Join(t.TempDir(), "values.yaml")
	if err := os.WriteFile(values, b, 0o644); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(helm, "template", "mail", chart, "-f", values).Output()
	if err != nil {
		t.Fatal(err)
	}
	theirs := objects(t, map[string]string{"all.yaml": string(out)})
	for name, ours := range objects(t, render(t, chosen())) {
		if !reflect.DeepEqual(ours, theirs[name]) {
			a, _ := yaml.Marshal(ours)
			b, _ := yaml.Marshal(theirs[name])
			t.Errorf("%s: here\n%s\nby helm\n%s", name, a, b)
		}
	}
	if lint, err := exec.Command(helm, "lint", "--strict", chart, "-f", values).CombinedOutput(); err != nil || bytes.Contains(lint, []byte("[ERROR]")) {
		t.Errorf("%v\n%s", err, lint)
	}
}
