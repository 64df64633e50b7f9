package mime

import (
	"os"
	"path/filepath"
	"testing"
)

// corpus returns the messages of testdata, those of the structure table, and the
// mails of Python's own tests where Debian's libpython3.11-testsuite is installed.
func corpus(t testing.TB) map[string]string {
	t.Helper()
	out := map[string]string{}
	for _, pattern := range []string{"testdata/*.eml", "/usr/lib/python3.11/test/test_email/data/*.txt"} {
		names, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range names {
			b, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			out[name] = string(b)
		}
	}
	for _, c := range structures {
		out[c.name] = crlf(c.in)
		out[c.name+" (LF)"] = c.in
	}
	return out
}

func TestCorpus(t *testing.T) {
	all := corpus(t)
	if len(all) < 80 {
		t.Fatalf("only %d messages", len(all))
	}
	for name, in := range all {
		t.Run(name, func(t *testing.T) { check(t, []byte(in), parse(in, Limits{})) })
	}
}
