package arc

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/martlet-mail/martlet/internal/check/dkim"
	"github.com/martlet-mail/martlet/internal/dnsx"
	"github.com/martlet-mail/martlet/internal/fault"
)

// zone answers for a name server.
type zone map[string][]string

func (z zone) LookupTXT(_ context.Context, name string) ([]string, dnsx.Info, error) {
	records, ok := z[name]
	if !ok {
		return nil, dnsx.Info{}, fault.Wrap(fault.NotFound, "", dnsx.ErrNoName)
	}
	return records, dnsx.Info{}, nil
}

func verify(text string, z zone, now time.Time) Result {
	h, b := text, ""
	if strings.HasPrefix(text, "\r\n") {
		h, b = text[:2], text[2:]
	} else if i := strings.Index(text, "\r\n\r\n"); i >= 0 {
		h, b = text[:i+4], text[i+4:]
	}
	m := dkim.NewMessage([]byte(h), func(context.Context) (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(b)), nil })
	return Verify(context.Background(), m, dkim.NewKeys(z), now)
}

// TestPublicSuite runs the validation tests of ValiMail's arc_test_suite, if
// MARTLET_ARC_SUITE is the folder that holds them (tests/arc-draft-validation-tests.yml).
func TestPublicSuite(t *testing.T) {
	dir := os.Getenv("MARTLET_ARC_SUITE")
	if dir == "" {
		t.Skip("MARTLET_ARC_SUITE is not set")
	}
	text, err := os.ReadFile(filepath.Join(dir, "arc-draft-validation-tests.yml"))
	if err != nil {
		t.Fatal(err)
	}
	n, failed := 0, 0
	for _, doc := range documents(string(text)) {
		z := zone{}
		for _, r := range doc.children("txt-records") {
			z[r.key] = []string{strings.TrimSpace(r.text)}
		}
		for _, c := range doc.children("tests") {
			n++
			message := strings.ReplaceAll(c.get("message"), "\n", "\r\n")
			got := verify(message, z, time.Unix(12345, 0))
			want := strings.ToLower(strings.TrimSpace(c.get("cv")))
			if want == "" {
				want = "fail"
			}
			if string(got.Status) != want {
				failed++
				t.Errorf("%s (%s): %s, want %s: %s", c.key, c.get("description"), got.Status, want, got.Reason)
			}
		}
	}
	t.Logf("%d tests, %d failed", n, failed)
	if n < 150 {
		t.Errorf("only %d tests were found", n)
	}
}

// node is a piece of the subset of YAML that the suite is written in.
type node struct {
	key  string
	text string // of a scalar
	sub  []node
}

func (n node) children(key string) []node {
	for _, s := range n.sub {
		if s.key == key {
			return s.sub
		}
	}
	return nil
}

func (n node) get(key string) string {
	for _, s := range n.sub {
		if s.key == key {
			return s.text
		}
	}
	return ""
}

func documents(text string) (docs []node) {
	var lines []string
	flush := func() {
		if len(lines) > 0 {
			docs = append(docs, node{sub: mapping(lines, 0)})
		}
		lines = nil
	}
	for line := range strings.SplitSeq(text, "\n") {
		if strings.TrimRight(line, " ") == "---" {
			flush()
			continue
		}
		lines = append(lines, line)
	}
	flush()
	return docs
}

func indentOf(line string) int { return len(line) - len(strings.TrimLeft(line, " ")) }

// mapping reads the keys that stand at an indent.
func mapping(lines []string, indent int) (out []node) {
	for i := 0; i < len(lines); {
		line := lines[i]
		i++
		if strings.TrimSpace(line) == "" || strings.HasPrefix(strings.TrimSpace(line), "#") || indentOf(line) != indent {
			continue
		}
		key, value, _ := strings.Cut(strings.TrimSpace(line), ":")
		value = strings.TrimSpace(value)
		start := i
		for i < len(lines) && (strings.TrimSpace(lines[i]) == "" || indentOf(lines[i]) > indent) {
			i++
		}
		block := lines[start:i]
		n := node{key: strings.TrimSpace(key), text: value}
		switch {
		case value == "|":
			n.text = scalar(block, "\n")
		case strings.HasPrefix(value, ">"):
			n.text = strings.TrimSpace(scalar(block, " "))
		case value == "" && len(block) > 0:
			first := 0
			for first < len(block)-1 && (strings.TrimSpace(block[first]) == "" || strings.HasPrefix(strings.TrimSpace(block[first]), "#")) {
				first++
			}
			n.sub = mapping(block, indentOf(block[first]))
		}
		out = append(out, n)
	}
	return out
}

// scalar is a block without its indent; empty lines at its end are clipped to one line ending.
func scalar(block []string, sep string) string {
	indent := -1
	for _, l := range block {
		if strings.TrimSpace(l) != "" {
			indent = indentOf(l)
			break
		}
	}
	var b strings.Builder
	for _, l := range block {
		b.WriteString(l[min(max(indent, 0), len(l)):] + sep)
	}
	return strings.TrimRight(b.String(), "\n") + "\n"
}
