package report_test

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/martlet-mail/martlet/internal/report"
)

var update = flag.Bool("update", false, "rewrite the files of testdata")

// golden compares a text with a file.
func golden(t *testing.T, file, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil || got != string(want) {
		t.Errorf("%s (%v):\n%s\nwant\n%s", file, err, got, want)
	}
}

// view is what martlet reports has, a line each.
func (h *house) view(q report.Query) string {
	h.t.Helper()
	sources, transports, err := h.book.View(h.t.Context(), q)
	if err != nil {
		h.t.Fatal(err)
	}
	var b strings.Builder
	for _, s := range sources {
		fmt.Fprintf(&b, "dmarc %s %s %d spf=%s dkim=%s %s by %s %v\n", s.Domain, s.Address, s.Messages, s.SPF, s.DKIM, s.Disposition, strings.Join(s.Reporters, ","), s.Verified)
	}
	for _, s := range transports {
		fmt.Fprintf(&b, "tls %s %s %s %s %d by %s %v\n", s.Domain, s.Policy, s.Result, s.Host, s.Sessions, strings.Join(s.Reporters, ","), s.Verified)
	}
	return b.String()
}
