package links

import (
	"bufio"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/martlet-mail/martlet/internal/move/imapc"
	"github.com/martlet-mail/martlet/internal/move/signin/signintest"
	"github.com/martlet-mail/martlet/test/peers/martlet"
)

// signedIn runs a command that asks a person to sign in, who does.
func (w *world) signedIn(args ...string) (string, error) {
	w.t.Helper()
	cmd := exec.Command(built, append(args, "--config", w.here.Config)...)
	said, err := cmd.StderrPipe()
	w.must(err)
	var out strings.Builder
	cmd.Stdout = &out
	w.must(cmd.Start())
	var text strings.Builder
	for lines := bufio.NewScanner(said); lines.Scan(); {
		line := strings.TrimSpace(lines.Text())
		fmt.Fprintln(&text, line)
		if strings.HasPrefix(line, "http://127.0.0.1:") {
			resp, err := http.Get(line) // and back to the command
			w.must(err)
			resp.Body.Close()
		}
	}
	if err := cmd.Wait(); err != nil {
		return out.String(), fmt.Errorf("%w: %s", err, &text)
	}
	return out.String(), nil
}

// Another Martlet takes tokens of an issuer; a link and an import sign in there, tokens are
// made anew as they end, and what the issuer takes back is told of.
func TestSignInByOAuth(t *testing.T) {
	issuer := signintest.New(t, time.Now)
	there, err := martlet.Start(martlet.Options{Binary: built, Dir: t.TempDir(), Accounts: []string{"erin"}, Set: map[string]string{
		"oauth.issuer": fmt.Sprintf("%q", issuer.URL), "oauth.audience": `["mail"]`, "oauth.check": `"introspection"`, "oauth.introspection_url": fmt.Sprintf("%q", issuer.URL+"/introspect"),
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { there.Stop() })
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte(issuer.ClientSecret+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	here, err := martlet.Start(martlet.Options{Binary: built, Dir: t.TempDir(), Accounts: []string{"carol", "dan"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { here.Stop() })
	w := &world{t: t, here: here}
	erin := there.Account("erin")
	issuer.Person, issuer.Lifetime = erin.Address, time.Minute // so short that each run needs another
	remote := w.connect(there.Addr("imap"), erin.Address, erin.Password)
	w.add(remote, "INBOX", 0, 5)

	sign := []string{"--from", "imap://" + there.Addr("imap"), "--user", erin.Address, "--insecure", "--oauth", issuer.URL, "--client-id", issuer.ClientID, "--client-secret-file", secret}
	_, err = w.signedIn(append([]string{"link", "add", here.Account("carol").Address, "--into", "Erin"}, sign...)...)
	w.must(err)
	carol := w.local("carol")
	for end := time.Now().Add(time.Minute); time.Now().Before(end) && w.link("1").Brought < 6; time.Sleep(50 * time.Millisecond) {
	}
	w.add(remote, "INBOX", 5, 8)
	for range 2 {
		_, err = w.command("", "link", "run", "1")
		w.must(err)
	}
	if n := len(w.census(carol, "Erin")["Erin"]); n != 9 { // with the letter that greets
		t.Errorf("%d messages", n)
	}
	issuer.Revoke()
	w.must(here.Stop()) // and what it is connected by
	w.must(here.Restart())
	out, err := w.command("", "link", "run", "1")
	l := w.link("1")
	if err == nil || l.State != "paused" || !strings.HasPrefix(l.Error, "needs a sign-in") {
		t.Errorf("%s %v %+v", out, err, l)
	}
	_, err = w.signedIn("link", "passwd", "1", "--oauth", issuer.URL, "--client-id", issuer.ClientID, "--client-secret-file", secret)
	w.must(err)
	if out, err = w.command("", "link", "run", "1"); err != nil {
		t.Errorf("%s %v", out, err)
	}

	_, err = w.signedIn(append([]string{"import", "imap", "--to", here.Account("dan").Address, "--yes"}, sign...)...)
	w.must(err)
	dan := w.local("dan")
	sel, err := dan.Select(t.Context(), "INBOX", imapc.Select{})
	if err != nil || sel.Exists < 8 {
		t.Errorf("%+v %v", sel, err)
	}
}
