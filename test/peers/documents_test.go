package peers

import (
	"bytes"
	"encoding/json"
	"image"
	"image/color"
	"image/png"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/martlet-mail/martlet/internal/discover"
	"github.com/martlet-mail/martlet/internal/discover/format"
	"github.com/martlet-mail/martlet/internal/dnsx/dnstest"
	"github.com/martlet-mail/martlet/test/peers/martlet"
)

const documentName = `o'n&"x"` // not known to the server: the documents are the same

// TestDocuments reads what the server tells of itself with programs that are not ours: the
// profile by OpenSSL and Python's plistlib, the QR codes by a reader of such codes.
func TestDocuments(t *testing.T) {
	t.Parallel()
	if against() != "" {
		t.Skip("the documents are of our own server")
	}
	s := start(t, martlet.Options{Set: map[string]string{"autoconfig.sign": `"always"`}})
	t.Run("profile", func(t *testing.T) { profile(t, s) })
	t.Run("qr", func(t *testing.T) { qrCodes(t, s) })
	t.Run("qr in a terminal", qrOfTerminal)
	t.Run("serve-check", func(t *testing.T) { serveCheck(t, s) })
	t.Run("discover --format", func(t *testing.T) { formatByCommand(t, s) })
	t.Run("autoconfig in thunderbird's forms", func(t *testing.T) { whateverHost(t, s) })
}

func document(t *testing.T, s *subject, path string) []byte {
	t.Helper()
	r, err := http.Get("http://" + s.addr("http") + path)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	body, err := io.ReadAll(r.Body)
	if err != nil || r.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s %s %v", path, r.Status, body, err)
	}
	return body
}

const readProfile = `import json, plistlib, sys
p = plistlib.load(sys.stdin.buffer, fmt=plistlib.FMT_XML)
json.dump({"type": p["PayloadType"], "account": p["PayloadContent"][0]}, sys.stdout)`

func profile(t *testing.T, s *subject) {
	home := t.TempDir()
	address := documentName[:3] + "@martlet.test"
	signed := write(t, home, "p.mobileconfig", string(document(t, s, "/account/mail.mobileconfig?address="+url.QueryEscape(address))))
	verify := func(ca string) result {
		return program{name: "openssl", args: []string{"cms", "-verify", "-inform", "DER", "-in", signed, "-CAfile", ca, "-purpose", "any", "-binary", "-out", filepath.Join(home, "plain")}, home: home}.run(t)
	}
	if r := verify("/etc/ssl/certs/ca-certificates.crt"); r.code == 0 {
		t.Error("any authority vouches for the signature")
	}
	if r := verify(s.caPath()); r.code != 0 {
		t.Fatalf("OpenSSL refuses the signature: %s", r.err)
	}
	plain, _ := os.ReadFile(filepath.Join(home, "plain"))
	r := program{name: "python3", args: []string{"-c", readProfile}, in: string(plain)}.succeed(t)
	var p struct {
		Type    string
		Account map[string]any
	}
	if err := json.Unmarshal([]byte(r.out), &p); err != nil || p.Type != "Configuration" {
		t.Fatalf("%s %v", r.out, err)
	}
	port := func(name string) float64 { return float64(s.Ports[name]) }
	for key, want := range map[string]any{
		"PayloadType": "com.apple.mail.managed", "EmailAccountType": "EmailTypeIMAP", "EmailAddress": address,
		"IncomingMailServerHostName": "localhost", "IncomingMailServerPortNumber": port("imaps"), "IncomingMailServerUseSSL": true, "IncomingMailServerUsername": address,
		"OutgoingMailServerHostName": "localhost", "OutgoingMailServerPortNumber": port("submissions"), "OutgoingMailServerUseSSL": true, "OutgoingMailServerUsername": address,
		"OutgoingPasswordSameAsIncomingPassword": true, "IncomingPassword": nil, "OutgoingPassword": nil,
	} {
		if p.Account[key] != want {
			t.Errorf("%s is %v, want %v", key, p.Account[key], want)
		}
	}
}

// scan reads a QR code from a file.
func scan(t *testing.T, file string) string {
	t.Helper()
	return strings.TrimSuffix(program{name: "zbarimg", args: []string{"-q", "--raw", file}}.succeed(t).out, "\n")
}

func qrCodes(t *testing.T, s *subject) {
	home, query := t.TempDir(), "?address=alice@martlet.test"
	for _, file := range []string{"qr.png", "qr.svg"} {
		text := scan(t, write(t, home, file, string(document(t, s, "/account/"+file+query))))
		var code []any
		if err := json.Unmarshal([]byte(text), &code); err != nil || len(code) != 4 {
			t.Fatalf("%s says %s; %v", file, text, err)
		}
		in, out := code[2].([]any), code[3].([]any)[0].([]any)
		want := []any{0.0, "localhost", float64(s.Ports["imaps"]), 3.0, 1.0, "alice@martlet.test"}
		if !equal(in, want) || !equal(out[0].([]any), append([]any{0.0, "localhost", float64(s.Ports["submissions"])}, want[3:]...)) || !equal(out[1].([]any), []any{"alice@martlet.test", "alice@martlet.test"}) {
			t.Errorf("%s says %s", file, text)
		}
	}
}

func equal(a, b []any) bool {
	x, _ := json.Marshal(a)
	y, _ := json.Marshal(b)
	return bytes.Equal(x, y)
}

// What is drawn with characters is read, too, once the characters are points.
func qrOfTerminal(t *testing.T) {
	service := func(protocol string, port int, security string) discover.Service {
		return discover.Service{Protocol: protocol, Host: strings.Repeat("long.", 8) + "example", Port: port, Security: security}
	}
	text, err := format.QR(discover.Answer{Address: `a"<>{}\@here.example`, Services: []discover.Service{service("pop3", 110, discover.StartTLS), service("smtp", 587, "none")}}, "Ünï")
	if err != nil {
		t.Fatal(err)
	}
	p, err := format.Draw(text)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSuffix(p.Text(false), "\n"), "\n")
	const scale = 6
	picture := image.NewGray(image.Rect(0, 0, scale*(len([]rune(lines[0]))+8), scale*(2*len(lines)+8)))
	for i := range picture.Pix {
		picture.Pix[i] = 255 // as the rest of a screen, which is far enough away
	}
	for y, line := range lines {
		for x, r := range []rune(line) {
			for half, on := range []bool{r == '█' || r == '▀', r == '█' || r == '▄'} {
				for i := range scale * scale {
					picture.SetGray(scale*(x+4)+i%scale, scale*(2*y+half+4)+i/scale, color.Gray{map[bool]uint8{true: 255, false: 0}[on]})
				}
			}
		}
	}
	var b bytes.Buffer
	if err := png.Encode(&b, picture); err != nil {
		t.Fatal(err)
	}
	if read := scan(t, write(t, t.TempDir(), "t.png", b.String())); read != text {
		t.Errorf("%s is read as %s", text, read)
	}
	if want := `[1,[1,1],[1,"` + strings.Repeat("long.", 8) + `example",110,2,1,"a\"<>{}\\@here.example"]`; !strings.HasPrefix(text, want) {
		t.Errorf("%s does not begin %s", text, want)
	}
}

// serveCheck lets the real command play all programs against the real server. On ports of its
// own there is no PACC document, which can tell of none; everything else works.
func serveCheck(t *testing.T, s *subject) {
	_, imaps, _ := strings.Cut(s.addr("imaps"), ":")
	_, submissions, _ := strings.Cut(s.addr("submissions"), ":")
	dns, err := dnstest.Start("martlet.test. 300 IN MX 10 mail.martlet.test.\nmail.martlet.test. 300 IN A 127.0.0.1\n" +
		"_imaps._tcp.martlet.test. 300 IN SRV 0 1 " + imaps + " mail.martlet.test.\n_submissions._tcp.martlet.test. 300 IN SRV 0 1 " + submissions + " mail.martlet.test.\n")
	if err != nil {
		t.Fatal(err)
	}
	defer dns.Close()
	r := program{name: built, args: []string{"discover", "martlet.test", "--serve-check", "--json", "--connect", s.addr("https"), "--connect-http", s.addr("http"), "--ca", s.caPath(), "--resolver", dns.Addr()}}.run(t)
	works := map[string]bool{}
	for line := range strings.Lines(r.out) {
		var o struct {
			Client string
			OK     bool
			Tries  []struct{ Mechanism, Status, Why string }
		}
		if err := json.Unmarshal([]byte(line), &o); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		works[o.Client] = o.OK
		for _, try := range o.Tries {
			if want := map[bool]string{true: "fail", false: "pass"}[try.Mechanism == "names" || try.Mechanism == "pacc"]; try.Status != want {
				t.Errorf("%s %s: %s %s", o.Client, try.Mechanism, try.Status, try.Why)
			}
		}
	}
	if r.code != 1 || len(works) != 8 || works["PACC"] || !works["Thunderbird"] || !works["Thunderbird Android"] || !works["FairEmail"] || !works["aerc"] || !works["Outlook (POX)"] || !works["Outlook (JSON)"] || !works["Apple Mail"] {
		t.Errorf("code %d, %v\n%s", r.code, works, r.err)
	}
}

// whateverHost asks as Thunderbird does, by names that lead here only for this test.
func whateverHost(t *testing.T, s *subject) {
	for _, url := range []string{"http://autoconfig.martlet.test/mail/config-v1.1.xml?emailaddress=x%40martlet.test", "http://martlet.test/.well-known/autoconfig/mail/config-v1.1.xml"} {
		r := program{name: "curl", args: []string{"-sS", "--fail", "--max-redirs", "0", "--connect-to", "::" + s.addr("http"), url}}.succeed(t)
		if !strings.Contains(r.out, `<incomingServer type="imap">`) || strings.Contains(r.out, "plain<") {
			t.Errorf("%s: %s", url, r.out)
		}
	}
}

// formatByCommand goes the whole way: an address, the command, a file, the program, the mail.
func formatByCommand(t *testing.T, s *subject) {
	a, home := s.account(t, "alice"), t.TempDir()
	secret := write(t, home, "secret", a.Password+"\n")
	r := program{name: built, args: []string{"discover", a.Address, "--config", s.Config, "--format", "mbsync", "--ca", s.caPath(), "--password-command", "cat " + secret}}.succeed(t)
	rc := write(t, home, "mbsyncrc", r.out)
	os.MkdirAll(filepath.Join(home, "Mail", a.Address), 0o700)
	program{name: "mbsync", args: []string{"-c", rc, "-a"}, home: home}.succeed(t)
	all, _ := filepath.Glob(filepath.Join(home, "Mail", a.Address, "INBOX", "*", "*"))
	if len(all) == 0 {
		t.Error("the welcome message was not brought")
	}
}
