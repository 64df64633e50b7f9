package arc

import (
	"encoding/json"
	"encoding/pem"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/martlet-mail/martlet/internal/check/dkim"
)

const dkimpy = `
import sys, json, dkim
job = json.load(sys.stdin)
def dns(name, timeout=5):
    r = job["Zone"].get(name.decode().rstrip("."))
    return r.encode() if r else None
out = {"Verified": [], "Sealed": []}
for m in job["Verify"] or []:
    cv, res, why = dkim.arc_verify(m.encode("latin-1"), dnsfunc=dns)
    out["Verified"].append(cv.decode() if cv else "fail")
for m in job["Seal"] or []:
    m = b"Authentication-Results: lists.example; spf=pass smtp.mailfrom=example.org; arc=" + m["Status"].encode() + b"\r\n" + m["Text"].encode("latin-1")
    f = dkim.arc_sign(m, b"rsa", b"lists.example", job["Key"].encode(), b"lists.example", include_headers=[b"from", b"subject", b"date"], timestamp=str(job["Now"]))
    out["Sealed"].append((b"".join(f) + m).decode("latin-1"))
json.dump(out, sys.stdout)
`

// dkimpy of Debian verifies our chains, and we verify chains that both have worked on.
func TestDkimpy(t *testing.T) {
	if os.Getenv("MARTLET_PEERS") == "" {
		t.Skip("MARTLET_PEERS is not set")
	}
	keys, z := world()
	der, err := dkim.MarshalKey(keys[dkim.RSA].Signer)
	if err != nil {
		t.Fatal(err)
	}
	one := seal(t, letter)
	three := seal(t, seal(t, one))
	broken := one + "more\r\n"
	type toSeal struct{ Text, Status string }
	var answer struct{ Verified, Sealed []string }
	ask := func(verify []string, seal []toSeal) {
		t.Helper()
		zone := map[string]string{}
		for name, r := range z {
			zone[name] = r[0]
		}
		in, err := json.Marshal(map[string]any{"Zone": zone, "Verify": verify, "Seal": seal, "Key": string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})), "Now": now.Unix()})
		if err != nil {
			t.Fatal(err)
		}
		cmd := exec.CommandContext(t.Context(), "/usr/bin/python3", "-c", dkimpy)
		cmd.Stdin, cmd.Stderr = strings.NewReader(string(in)), os.Stderr
		out, err := cmd.Output()
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(out, &answer); err != nil {
			t.Fatal(err)
		}
	}
	ask([]string{letter, one, three, broken, seal(t, broken)}, []toSeal{{letter, "none"}, {one, "pass"}, {three, "pass"}})
	if got := strings.Join(answer.Verified, " "); got != "none pass pass fail fail" {
		t.Errorf("dkimpy says %s", got)
	}
	var both []string
	for i, text := range answer.Sealed {
		r := verifyHere(text)
		if r.Status != Pass || r.Highest != []int{1, 2, 4}[i] {
			t.Errorf("what dkimpy sealed is %+v\n%s", r, text)
		}
		both = append(both, seal(t, text))
	}
	ask(both, nil)
	if got := strings.Join(answer.Verified, " "); got != "pass pass pass" {
		t.Errorf("of chains by both dkimpy says %s", got)
	}
}
