package peers

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// roundcubeLibrary is where Debian's roundcube-core has it.
const roundcubeLibrary = "/usr/share/roundcube/program/lib/Roundcube/rcube_imap_generic.php"

// roundcube runs a script on Roundcube's IMAP library.
func roundcube(t *testing.T, s *subject) {
	if _, err := os.Stat(roundcubeLibrary); err != nil {
		t.Fatalf("Roundcube is not installed (make test installs it): %v", err)
	}
	script, err := filepath.Abs("testdata/roundcube.php")
	if err != nil {
		t.Fatal(err)
	}
	a := s.account(t, "roundcube")
	host, port := s.host("imap")
	mode := ""
	if s.Server != nil {
		_, port, _ = strings.Cut(s.through(t, "imaps", "roundcube"), ":")
		host, mode = "localhost", "ssl"
	}
	r := program{name: "php", args: []string{script, host, port, mode, s.caPath(), a.Address, a.Password}}.succeed(t)
	programs.add("roundcube's library")
	if !strings.HasSuffix(r.out, "all done\n") {
		t.Errorf("the script ended early\n%s%s", r.out, r.err)
	}
}
