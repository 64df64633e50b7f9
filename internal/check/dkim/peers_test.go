package dkim

import (
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// peers tells whether programs of Debian are to be asked.
func peers(t *testing.T) {
	if os.Getenv("MARTLET_PEERS") == "" {
		t.Skip("MARTLET_PEERS is not set")
	}
}

func write(t *testing.T, dir, name, text string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func pemOf(t *testing.T, k Key) string {
	t.Helper()
	der, err := MarshalKey(k.Signer)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
}

// forPrograms are the messages that programs can read from a file as they are: OpenDKIM's test
// mode adds a line ending where there is none, and takes the first line without a colon for text.
func forPrograms(yield func(name, text string)) {
	for name, text := range odd {
		if strings.HasSuffix(text, "\r\n") && strings.Contains(text, "\r\n\r\n") && name != "signed before" && name != "space at colon" { // the latter is obsolete
			yield(name, text)
		}
	}
}

// OpenDKIM takes our signatures, and we take its, in all canonicalisations and by both
// algorithms. The control is a message that was changed.
func TestOpenDKIM(t *testing.T) {
	peers(t)
	all, z := keys(t)
	dir := t.TempDir()
	table := ""
	for name, records := range z {
		table += name + " " + records[0] + "\n"
	}
	verifier := write(t, dir, "verify.conf", "Mode v\nTestPublicKeys "+write(t, dir, "keys", table)+"\n")
	private := map[string]string{}
	for _, k := range all {
		private[k.Selector] = write(t, dir, k.Selector+".pem", pemOf(t, k))
	}
	now := time.Now()
	ask := func(args ...string) string {
		out, err := exec.CommandContext(t.Context(), "opendkim", args...).CombinedOutput()
		if err != nil && len(out) == 0 {
			t.Fatal(err)
		}
		return string(out)
	}
	says := func(text string) string {
		return ask("-x", verifier, "-t", write(t, dir, "m.eml", text), "-vv")
	}
	n := 0
	forPrograms(func(name, text string) {
		for _, c := range [][2]Canon{{Relaxed, Relaxed}, {Relaxed, Simple}, {Simple, Relaxed}, {Simple, Simple}} {
			if c[0] == Simple && (name == "folded" || name == "empty value") {
				continue // it drops white space behind the colon, as the milter protocol is used to
			}
			ours := signed(t, text, all, SignOptions{Now: now, Header: c[0], Body: c[1]})
			if got := says(ours); strings.Count(got, "dkim=pass") != 2 {
				t.Errorf("%s, %v: OpenDKIM says of ours %s", name, c, got)
			}
			if got := says(strings.Replace(ours, "\r\n\r\n", "\r\n\r\nmore\r\n", 1)); strings.Contains(got, "dkim=pass") {
				t.Errorf("%s, %v: OpenDKIM takes all", name, c)
			}
			for _, k := range all {
				conf := write(t, dir, "sign.conf", fmt.Sprintf("Mode s\nDomain *\nKeyTable file:%s\nSigningTable file:%s\nSignatureAlgorithm %s\nCanonicalization %v/%v\nRequireSafeKeys no\nOversignHeaders From,Subject\n",
					write(t, dir, "keytable", "k example.org:"+k.Selector+":"+private[k.Selector]+"\n"), write(t, dir, "signing", "example.org k\n"), Algorithm(k.Signer), c[0], c[1]))
				out := ask("-x", conf, "-t", write(t, dir, "u.eml", text), "-vv")
				field := regexp.MustCompile(`(?s)hname='DKIM-Signature' hvalue='(.*?)'`).FindStringSubmatch(out)
				if field == nil {
					t.Fatalf("%s: OpenDKIM does not sign: %s", name, out)
				}
				theirs := "DKIM-Signature: " + strings.TrimSpace(strings.ReplaceAll(strings.ReplaceAll(field[1], "\r\n", "\n"), "\n", "\r\n")) + "\r\n" + text
				// What it makes of Ed25519 and a simple header it does not take itself (2.11.0).
				r := verify(t, theirs, z, now)
				if statuses(r) == "pass" {
					n++
				} else if !(c[0] == Simple && Algorithm(k.Signer) == Ed25519 && !strings.Contains(says(theirs), "dkim=pass")) {
					t.Errorf("%s, %v, %s: of OpenDKIM's we say %+v\n%s", name, c, k.Selector, r, theirs)
				}
			}
		}
	})
	t.Logf("%d of its signatures", n)
	if n < 80 {
		t.Error("too few to mean anything")
	}
}

// asked is what the program below is given and gives back.
type asked struct {
	Text, Selector, Algorithm, Canon string
	Ours                             bool // to be verified; else to be signed
	Pass                             []bool
	Field                            string
}

const dkimpy = `
import sys, json, dkim
job = json.load(sys.stdin)
def dns(name, timeout=5):
    r = job["Zone"].get(name.decode().rstrip("."))
    return r.encode() if r else None
for a in job["Asked"]:
    m = a["Text"].encode("latin-1")
    if a["Ours"]:
        a["Pass"] = []
        for i in range(2):
            try: a["Pass"].append(bool(dkim.DKIM(m).verify(idx=i, dnsfunc=dns)))
            except dkim.DKIMException as e: a["Pass"].append(False)
    else:
        h, b = [c.encode() for c in a["Canon"].split("/")]
        a["Field"] = dkim.sign(m, a["Selector"].encode(), b"example.org", job["Keys"][a["Selector"]].encode(), canonicalize=(h, b), signature_algorithm=a["Algorithm"].encode(), include_headers=[b"from", b"subject"]).decode("latin-1")
json.dump(job["Asked"], sys.stdout)
`

// latin1 is bytes as JSON can carry them.
func latin1(s string) string {
	r := make([]rune, len(s))
	for i := range len(s) {
		r[i] = rune(s[i])
	}
	return string(r)
}

// dkimpy of Debian, the same.
func TestDkimpy(t *testing.T) {
	peers(t)
	all, z := keys(t)
	now := time.Now()
	var job struct {
		Zone, Keys map[string]string
		Asked      []asked
	}
	job.Zone, job.Keys = map[string]string{}, map[string]string{}
	for name, records := range z {
		job.Zone[name] = records[0]
	}
	var names []string
	for _, k := range all {
		job.Keys[k.Selector] = pemOf(t, k)
		if Algorithm(k.Signer) == Ed25519 {
			job.Keys[k.Selector] = seedOf(k) // its form of a key
		}
	}
	forPrograms(func(name, text string) {
		for _, c := range []string{"relaxed/relaxed", "relaxed/simple", "simple/relaxed", "simple/simple"} {
			h, b, _ := strings.Cut(c, "/")
			header, _ := parseCanon(h)
			body, _ := parseCanon(b)
			ours := signed(t, text, all, SignOptions{Now: now, Header: header, Body: body})
			job.Asked = append(job.Asked, asked{Text: latin1(ours), Ours: true})
			job.Asked = append(job.Asked, asked{Text: latin1(strings.Replace(ours, "\r\n\r\n", "\r\n\r\nmore\r\n", 1)), Ours: true})
			for _, k := range all {
				job.Asked = append(job.Asked, asked{Text: latin1(text), Selector: k.Selector, Algorithm: Algorithm(k.Signer), Canon: c})
			}
			names = append(names, name+" "+c+", ours", name+" "+c+", changed", name+" "+c+", ed25519", name+" "+c+", rsa")
		}
	})
	in, err := json.Marshal(job)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "/usr/bin/python3", "-c", dkimpy)
	cmd.Stdin, cmd.Stderr = strings.NewReader(string(in)), os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	var answers []asked
	if err := json.Unmarshal(out, &answers); err != nil || len(answers) != len(names) || len(names) < 100 {
		t.Fatal(err, len(answers), len(names))
	}
	for i, a := range answers {
		switch {
		case a.Ours && strings.HasSuffix(names[i], "changed"):
			if a.Pass[0] || a.Pass[1] {
				t.Errorf("%s: dkimpy takes all", names[i])
			}
		case a.Ours && (!a.Pass[0] || !a.Pass[1]):
			t.Errorf("%s: dkimpy says %v", names[i], a.Pass)
		case !a.Ours:
			var theirs strings.Builder
			for _, r := range a.Field + a.Text {
				theirs.WriteByte(byte(r))
			}
			if r := verify(t, theirs.String(), z, now); statuses(r) != "pass" {
				t.Errorf("%s: of dkimpy's we say %+v\n%.1000s", names[i], r, theirs.String())
			}
		}
	}
}

func seedOf(k Key) string {
	return base64.StdEncoding.EncodeToString(k.Signer.(ed25519.PrivateKey).Seed())
}
