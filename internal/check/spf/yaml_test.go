package spf_test

import (
	"bytes"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	_ "blitiri.com.ar/go/spf" // brings the suite along
	"go.yaml.in/yaml/v3"
)

// publicSuite reads the test suite for RFC 7208 (openspf, BSD licence) where it lies: in the
// module of another library for SPF.
func publicSuite(t *testing.T) (all []suite) {
	t.Helper()
	dir, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "blitiri.com.ar/go/spf").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	text, err := os.ReadFile(filepath.Join(strings.TrimSpace(string(dir)), "testdata", "rfc7208-tests.yml"))
	if err != nil {
		t.Fatal(err)
	}
	docs := yaml.NewDecoder(bytes.NewReader(text))
	for {
		var doc struct {
			Description string
			Tests       map[string]struct {
				Helo, Host, Mailfrom, Explanation, Description string
				Result                                         any
			}
			Zonedata map[string][]any
		}
		if err := docs.Decode(&doc); errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			t.Fatal(err)
		}
		if doc.Tests == nil {
			continue
		}
		s := suite{Description: doc.Description, Zonedata: map[string][]rr{}}
		for name, c := range doc.Tests {
			s.Tests = append(s.Tests, testCase{name, c.Helo, c.Host, c.Mailfrom, c.Explanation, c.Description, texts(c.Result)})
		}
		slices.SortFunc(s.Tests, func(a, b testCase) int { return strings.Compare(a.Name, b.Name) })
		for name, records := range doc.Zonedata {
			s.Zonedata[name] = []rr{}
			for _, r := range records {
				s.Zonedata[name] = append(s.Zonedata[name], record(t, name, r))
			}
		}
		all = append(all, s)
	}
}

// record is a type with what it holds. What that library wrote for a loop is a loop again.
func record(t *testing.T, name string, r any) rr {
	if word, ok := r.(string); ok {
		return rr{Type: word}
	}
	for kind, data := range r.(map[string]any) {
		if kind == "CNAMELOOP" {
			return rr{"CNAME", []string{name}}
		}
		return rr{kind, texts(data)}
	}
	t.Fatal("an empty record")
	return rr{}
}

func texts(v any) (all []string) {
	list, ok := v.([]any)
	if !ok {
		list = []any{v}
	}
	for _, one := range list {
		switch one := one.(type) {
		case string:
			all = append(all, one)
		case int:
			all = append(all, strconv.Itoa(one))
		}
	}
	return all
}
