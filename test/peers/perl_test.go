package peers

import (
	"path/filepath"
	"strings"
	"testing"
)

// perl runs a script on the library that imapsync is made of. Debian has no package of
// imapsync itself.
func perl(t *testing.T, s *subject) {
	script, err := filepath.Abs("testdata/imapclient.pl")
	if err != nil {
		t.Fatal(err)
	}
	a := s.account(t, "perl")
	host, port := s.host("imap")
	if s.Server != nil {
		_, port, _ = strings.Cut(s.through(t, "imaps", "imapclient"), ":")
		host = "localhost"
	}
	r := program{name: "perl", args: []string{script, host, port, s.caPath(), a.Address, a.Password}}.succeed(t)
	programs.add("Mail::IMAPClient")
	if !strings.HasSuffix(r.out, "all done\n") {
		t.Errorf("the script ended early\n%s%s", r.out, r.err)
	}
}
