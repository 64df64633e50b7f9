package arc

import (
	"crypto/rand"
	"fmt"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/martlet-mail/martlet/internal/check/dkim"
	"github.com/martlet-mail/martlet/internal/fault"
)

var now = time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)

// world returns a key of an algorithm and the zone that has it.
var world = sync.OnceValues(func() (map[string]dkim.Key, zone) {
	z, keys := zone{}, map[string]dkim.Key{}
	for _, algorithm := range []string{dkim.RSA, dkim.Ed25519} {
		signer, err := dkim.GenerateKey(algorithm, rand.Reader)
		if err != nil {
			panic(err)
		}
		record, err := dkim.Record(signer)
		if err != nil {
			panic(err)
		}
		keys[algorithm] = dkim.Key{Domain: "lists.example", Selector: algorithm[:3], Signer: signer}
		z[dkim.RecordName(algorithm[:3], "lists.example")] = []string{record}
	}
	return keys, z
})

const letter = "DKIM-Signature: v=1; b=x\r\nFrom: Ann <ann@example.org>\r\nTo: list@lists.example\r\nSubject: a letter\r\nDate: Sun, 1 Nov 2026 12:00:00 +0000\r\n\r\nDear all,\r\n\r\nthis  is all.\t\r\n\r\n"

const results = "mx.lists.example;\r\n\tspf=pass smtp.mailfrom=example.org;\r\n\tdmarc=pass header.from=example.org"

// seal adds a set to a message, as a host does that verified it first.
func seal(t testing.TB, text string) string { return sealAs(t, text, verifyHere(text)) }

func verifyHere(text string) Result {
	_, z := world()
	return verify(text, z, now)
}

func sealAs(t testing.TB, text string, chain Result) string {
	t.Helper()
	keys, _ := world()
	i := strings.Index(text, "\r\n\r\n") + 4
	fields, err := Seal([]byte(text[:i]), strings.NewReader(text[i:]), keys[dkim.RSA], SealOptions{Now: now, Chain: chain, Results: results})
	if err != nil {
		t.Fatal(err)
	}
	return string(fields) + text
}

// Sets are added up to the limit, and each chain verifies; what hosts said comes out again.
func TestRoundTrip(t *testing.T) {
	text := letter
	for i := 1; i <= MaxSets; i++ {
		text = seal(t, "Received: by host"+fmt.Sprint(i)+"\r\n"+text)
		if i > 3 && i < MaxSets-1 {
			continue
		}
		r := verifyHere(text)
		if r.Status != Pass || len(r.Sets) != i || r.OldestPass != 0 || r.Weak || r.Over {
			t.Fatalf("%d sets: %+v", i, r)
		}
		if s := r.Sets[i-1]; s.Instance != i || s.Domain != "lists.example" || s.Selector != "rsa" || s.Results != results || s.Status != map[bool]Status{true: None, false: Pass}[i == 1] {
			t.Errorf("set %d: %+v", i, s)
		}
	}
	if more := seal(t, text); more != text {
		t.Error("a set more than the limit was added")
	}
}

// With an Ed25519 key alone the chain is sealed by that.
func TestEd25519(t *testing.T) {
	keys, z := world()
	i := strings.Index(letter, "\r\n\r\n") + 4
	fields, err := Seal([]byte(letter[:i]), strings.NewReader(letter[i:]), keys[dkim.Ed25519], SealOptions{Now: now, Results: results})
	if err != nil {
		t.Fatal(err)
	}
	if r := verify(string(fields)+letter, z, now); r.Status != Pass {
		t.Errorf("%+v", r)
	}
}

// without takes the fields of a name and an instance out of a message.
func without(text, name string, i int) string {
	return changed(text, name, i, func(string) string { return "" })
}

func changed(text, name string, i int, change func(string) string) string {
	start := strings.Index(text, fmt.Sprintf("%s: i=%d;", name, i))
	if start < 0 {
		panic(fmt.Sprint("there is no ", name, " ", i))
	}
	end := start + regexp.MustCompile(`\r\n[^\t ]`).FindStringIndex(text[start:])[0] + 2
	return text[:start] + change(text[start:end]) + text[end:]
}

// Whatever is wrong with a chain of three makes it fail, and for good.
func TestAttack74Chains(t *testing.T) {
	good := seal(t, seal(t, seal(t, letter)))
	if r := verifyHere(good); r.Status != Pass || len(r.Sets) != 3 {
		t.Fatalf("the control: %+v", r)
	}
	tests := map[string]string{}
	for kind, name := range names {
		for i := 1; i <= 3; i++ {
			tests[fmt.Sprintf("no %s %d", name, i)] = without(good, name, i)
			tests[fmt.Sprintf("two of %s %d", name, i)] = changed(good, name, i, func(f string) string { return f + f })
			tests[fmt.Sprintf("%s %d is 0", name, i)] = changed(good, name, i, func(f string) string { return strings.Replace(f, fmt.Sprintf("i=%d", i), "i=0", 1) })
			tests[fmt.Sprintf("%s %d is 51", name, i)] = changed(good, name, i, func(f string) string { return strings.Replace(f, fmt.Sprintf("i=%d", i), "i=51", 1) })
			tests[fmt.Sprintf("%s %d is another", name, i)] = changed(good, name, i, func(f string) string {
				return strings.Replace(f, fmt.Sprintf("i=%d", i), fmt.Sprintf("i=%d", i%3+1), 1)
			})
			tests[fmt.Sprintf("%s %d without an instance", name, i)] = changed(good, name, i, func(f string) string { return strings.Replace(f, fmt.Sprintf("i=%d;", i), "", 1) })
			tests[fmt.Sprintf("%s %d is changed", name, i)] = changed(good, name, i, func(f string) string {
				switch kind {
				case 0:
					return strings.Replace(f, "spf=pass", "spf=fail", 1)
				case 1:
					return strings.Replace(f, "t=", "x=9999999999; t=", 1)
				}
				return strings.Replace(f, "t=1", "t=2", 1)
			})
		}
	}
	for i := 1; i <= 3; i++ {
		gone := good
		for _, name := range names {
			gone = without(gone, name, i)
		}
		if i < 3 { // the newest set may be taken away by anybody
			tests[fmt.Sprintf("set %d is gone", i)] = gone
		}
		for _, cv := range []string{"none", "pass", "fail", "", "PASS", "other"} {
			is := map[bool]string{true: "none", false: "pass"}[i == 1]
			if cv != is {
				tests[fmt.Sprintf("cv=%s in %d", cv, i)] = changed(good, "ARC-Seal", i, func(f string) string { return strings.Replace(f, "cv="+is, "cv="+cv, 1) })
			}
		}
	}
	tests["two sets change places"] = strings.NewReplacer("i=1;", "i=2;", "i=2;", "i=1;").Replace(good)
	tests["the body"] = good + "more\r\n"
	tests["From"] = strings.Replace(good, "From: Ann", "From: Anne", 1)
	tests["another From"] = "From: x@example.com\r\n" + good
	tests["a DKIM-Signature"] = strings.Replace(good, "b=x", "b=y", 1)
	tests["h= in a seal"] = changed(good, "ARC-Seal", 3, func(f string) string { return strings.Replace(f, "t=", "h=from; t=", 1) })
	tests["an odd border"] = "no field\r\n" + good
	tests["51 sets"] = strings.Repeat("ARC-Seal: i=1; cv=none\r\n", 51) + letter
	tests["one field of one set"] = "ARC-Seal: i=1; cv=none; a=rsa-sha256; b=AAAA; d=lists.example; s=rsa\r\n" + letter
	tests["rsa-sha1"] = changed(good, "ARC-Seal", 2, func(f string) string { return strings.Replace(f, "rsa-sha256", "rsa-sha1", 1) })
	tests["no key"] = changed(good, "ARC-Seal", 1, func(f string) string { return strings.Replace(f, "s=rsa", "s=none", 1) })
	for name, text := range tests {
		r := verifyHere(text)
		if r.Status != Fail || r.Reason == "" {
			t.Errorf("%s: %+v", name, r)
		}
	}
	if r := verifyHere(letter); r.Status != None || r.Reason != "" {
		t.Errorf("no chain: %+v", r)
	}
	for _, harmless := range []string{"Received: x\r\n" + good, "Authentication-Results: x\r\n" + good, strings.Replace(good, "Dear all", "Dear   all", 1), strings.Replace(good, "Subject: a", "SUBJECT:\r\n\ta", 1)} {
		if r := verifyHere(harmless); r.Status != Pass {
			t.Errorf("%+v", r)
		}
	}
}

// A chain that fails is sealed as failed, once; then nobody adds to it.
func TestFailedChain(t *testing.T) {
	broken := seal(t, seal(t, letter)) + "more\r\n"
	r := verifyHere(broken)
	if r.Status != Fail || r.Highest != 2 || r.Over {
		t.Fatalf("%+v", r)
	}
	marked := seal(t, broken)
	if !strings.HasPrefix(marked, "ARC-Seal: i=3; cv=fail;") {
		t.Errorf("%.200s", marked)
	}
	if r := verifyHere(marked); r.Status != Fail || !r.Over {
		t.Errorf("%+v", r)
	}
	if again := seal(t, marked); again != marked {
		t.Error("a set was added to a chain that is over")
	}
	// The seal of a failed chain covers its own set alone (RFC 8617, 5.1.2): alone it is right.
	alone := marked
	for i := 1; i <= 2; i++ {
		for _, name := range names {
			alone = without(alone, name, i)
		}
	}
	_, z := world()
	m := dkim.NewMessage([]byte(alone[:strings.Index(alone, "\r\n\r\n")+4]), nil)
	s, err := dkim.ParseSignature(m.Fields("ARC-Seal")[0])
	if err != nil {
		t.Fatal(err)
	}
	data := dkim.Relaxed.AppendField(dkim.Relaxed.AppendField(nil, m.Fields(names[0])[0]), m.Fields(names[1])[0])
	if _, err := dkim.NewKeys(z).Check(t.Context(), s, data, dkim.Relaxed); err != nil {
		t.Error(err)
	}
}

// A host between changed the message and sealed it: what was said before still stands.
func TestOldestPass(t *testing.T) {
	text := seal(t, letter)
	chain := verifyHere(text)
	text = sealAs(t, strings.Replace(text, "Subject: a letter", "Subject: [list] a letter", 1)+"-- \r\nthe list\r\n", chain)
	text = seal(t, text)
	if r := verifyHere(text); r.Status != Pass || r.OldestPass != 2 || len(r.Sets) != 3 {
		t.Errorf("%+v", r)
	}
}

// l= in the newest signature is no pass; one that does not sign From is told of.
func TestWeak(t *testing.T) {
	text := seal(t, letter)
	if r := verifyHere(changed(text, names[1], 1, func(f string) string { return strings.Replace(f, "t=", "l=5; t=", 1) })); r.Status != Fail {
		t.Errorf("%+v", r)
	}
}

func TestSealRefuses(t *testing.T) {
	keys, _ := world()
	header := "From: a@example.org\r\n\r\n"
	for _, bad := range []string{"x\r\nFrom: b", "x\r\n\r\n", "x\n y", "x\x00"} {
		fields, err := Seal([]byte(header), strings.NewReader(""), keys[dkim.RSA], SealOptions{Now: now, Results: bad})
		if err == nil || fields != nil {
			t.Errorf("%q: %q", bad, fields)
		}
	}
	if _, err := Seal([]byte("From: a\r\nFrom: b\r\n\r\n"), strings.NewReader(""), keys[dkim.RSA], SealOptions{Now: now, Results: results}); !fault.Is(err, fault.Invalid) {
		t.Errorf("two From fields: %v", err)
	}
	if _, err := Seal([]byte(header), strings.NewReader("x"), keys[dkim.RSA], SealOptions{Now: now, Results: results, Chain: Result{Status: Pass, Highest: 3}}); !fault.Is(err, fault.Invalid) {
		t.Errorf("a chain of another message: %v", err)
	}
	text := seal(t, letter)
	i := strings.Index(text, "\r\n\r\n") + 4
	if _, err := Seal([]byte(text[:i]), strings.NewReader(text[i:]), keys[dkim.RSA], SealOptions{Now: now, Results: results, Chain: Result{Status: None}}); !fault.Is(err, fault.Invalid) {
		t.Errorf("a chain that was not looked at: %v", err)
	}
}

// FuzzVerify: any fields give a result within bounds, and a pass only if the seals are ours.
func FuzzVerify(f *testing.F) {
	good := seal(f, seal(f, letter))
	f.Add(good, uint16(0), "")
	f.Add(good, uint16(10), "x")
	f.Add(letter, uint16(0), "ARC-Seal: i=1; cv=none\r\n")
	f.Fuzz(func(t *testing.T, text string, at uint16, insert string) {
		n := min(int(at), len(text))
		text = text[:n] + insert + text[n:]
		r := verifyHere(text)
		switch {
		case r.Status != Pass && r.Status != Fail && r.Status != None, (r.Status == Fail) != (r.Reason != ""), len(r.Sets) > MaxSets, r.Highest > MaxSets:
			t.Fatalf("%+v", r)
		case r.Status == Pass && (len(r.Sets) != r.Highest || r.OldestPass > r.Highest):
			t.Fatalf("%+v", r)
		}
	})
}
