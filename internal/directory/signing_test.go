package directory

import (
	"bytes"
	"context"
	"crypto/rsa"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/fault"
)

// words calls the words of selectors, which are made by chance, a, b, ... as a test comes to see them.
type words struct {
	mu    sync.Mutex
	known []string
}

func (w *words) states(all []SigningKey) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var told []string
	for _, k := range all {
		word, kind, _ := strings.Cut(k.Selector, "-")
		i := slices.Index(w.known, word)
		if i < 0 {
			i = len(w.known)
			w.known = append(w.known, word)
		}
		told = append(told, string(rune('a'+i))+"-"+kind+" "+k.State.String())
	}
	return strings.Join(told, ", ")
}

func (w *words) want(t *testing.T, all []SigningKey, err error, want string) {
	t.Helper()
	if got := w.states(all); err != nil || got != want {
		t.Fatalf("%v: the keys are %q, not %q", err, got, want)
	}
}

// A domain that was made before there were keys, as AddDomain makes one, gets them when
// something is to be signed, and keeps them.
func TestSignersOfADomainWithoutKeys(t *testing.T) {
	f, keys := setUp(t), new(words)
	all, err := f.Keys(bg, "example.org")
	keys.want(t, all, err, "")
	first, err := f.Signers(bg, "EXAMPLE.org")
	keys.want(t, first, err, "a-ed active, a-rsa active")
	if k, ok := first[1].Signer.(*rsa.PrivateKey); !ok || k.N.BitLen() != 2048 || first[1].Algorithm != RSA || first[0].Algorithm != Ed25519 {
		t.Errorf("%+v", first)
	}
	f.Close()
	f.open(t)
	again, err := f.Signers(bg, "example.org")
	keys.want(t, again, err, "a-ed active, a-rsa active")
	if !again[1].Signer.(*rsa.PrivateKey).Equal(first[1].Signer) || !again[0].same(first[0]) {
		t.Error("they are other keys")
	}
	if none, err := f.Signers(bg, "example.com"); err != nil || none != nil {
		t.Errorf("a foreign domain: %v %v", none, err)
	}
	f.mustDo(t, f.Set(bg, "example.org", map[string]string{"sign": "no"}))
	if none, err := f.Signers(bg, "example.org"); err != nil || none != nil {
		t.Errorf("a domain that signs nothing: %v %v", none, err)
	}
}

// From one key to the next there is no moment at which nothing signs or what has signed
// cannot be verified.
func TestRotationHasNoGap(t *testing.T) {
	f, keys := setUp(t), new(words)
	_, err := f.Activate(bg, "example.org")
	wantKind(t, "nothing follows", err, fault.NotFound)
	_, err = f.MakeKeys(bg, "example.org")
	f.mustDo(t, err)
	f.pass(180 * 24 * time.Hour)
	all, err := f.NextKeys(bg, "example.org")
	keys.want(t, all, err, "a-ed active, a-rsa active, b-ed next, b-rsa next")
	all, err = f.NextKeys(bg, "example.org")
	keys.want(t, all, err, "a-ed active, a-rsa active, b-ed next, b-rsa next")
	signers, err := f.Signers(bg, "example.org")
	keys.want(t, signers, err, "a-ed active, a-rsa active")
	f.mustDo(t, f.KeysSeen(bg, "example.org", all[2].Selector, all[3].Selector, "of-another"))
	all, err = f.Activate(bg, "example.org")
	keys.want(t, all, err, "a-ed retired, a-rsa retired, b-ed active, b-rsa active")
	if all[2].Published.IsZero() || all[0].Gone.Sub(all[0].Retired) < 7*24*time.Hour || all[0].Signer == nil {
		t.Errorf("%+v", all)
	}
	signers, err = f.Signers(bg, "example.org")
	keys.want(t, signers, err, "b-ed active, b-rsa active")

	f.pass(f.opt.KeepKeys + 14*24*time.Hour - time.Hour)
	all, err = f.ExpireKeys(bg, "example.org")
	keys.want(t, all, err, "a-ed retired, a-rsa retired, b-ed active, b-rsa active")
	f.pass(time.Hour)
	all, err = f.ExpireKeys(bg, "example.org")
	keys.want(t, all, err, "a-ed gone, a-rsa gone, b-ed active, b-rsa active")
	all, err = f.Keys(bg, "example.org")
	keys.want(t, all, err, "a-ed gone, a-rsa gone, b-ed active, b-rsa active")
	if all[0].Signer != nil {
		t.Error("the private key is still there")
	}
	f.pass(goneKept + time.Hour)
	all, err = f.ExpireKeys(bg, "example.org")
	keys.want(t, all, err, "b-ed active, b-rsa active")
}

// Two that need keys at the same time do not make two sets.
func TestKeysAreMadeOnce(t *testing.T) {
	f, keys := setUp(t), new(words)
	got := make(chan string, 4)
	for range 4 {
		go func() {
			all, err := f.Signers(bg, "example.org")
			if err != nil {
				t.Error(err)
			}
			got <- keys.states(all)
		}()
	}
	for range 4 {
		if s := <-got; s != "a-ed active, a-rsa active" {
			t.Error(s)
		}
	}
	all, err := f.Keys(bg, "example.org")
	keys.want(t, all, err, "a-ed active, a-rsa active")
}

// A word that is there is not taken, whatever chance says.
func TestSelectorsAreNotUsedTwice(t *testing.T) {
	now := time.Unix(1_800_000_000, 0).UTC()
	chance := strings.NewReader("\x00\x01\x02\x03\x12\x00\x01\x02\x03\x12\x00\x01\x02\x03\xff")
	first, err := newWord(nil, now, chance)
	if err != nil || first != "202701bcdfz" {
		t.Errorf("%q %v", first, err)
	}
	second, err := newWord([]SigningKey{{Selector: first + "-ed"}}, now, chance)
	if err != nil || second != "202701bcdfm" {
		t.Errorf("%q %v", second, err)
	}
	if _, err := newWord(nil, now, chance); !fault.Is(err, fault.Internal) {
		t.Errorf("without chance: %v", err)
	}
}

// A domain that is removed and made again, or that is made again after a backup in which it
// was not came back, gets no selector under which the DNS may have another key.
func TestSelectorsDoNotComeAgain(t *testing.T) {
	f := setUp(t)
	seen := map[string]bool{}
	for range 3 {
		f.mustDo(t, f.AddDomain(bg, "again.test"))
		for _, makeMore := range []func(context.Context, string) ([]SigningKey, error){f.MakeKeys, f.NextKeys} {
			all, err := makeMore(bg, "again.test")
			f.mustDo(t, err)
			for _, k := range all {
				seen[k.Selector] = true
			}
		}
		f.mustDo(t, f.RemoveDomain(bg, "again.test"))
	}
	if len(seen) != 12 {
		t.Errorf("%d selectors for 12 keys: %v", len(seen), seen)
	}
}

// What belongs to a domain goes with it, and nothing of a domain whose name begins alike.
func TestRemovedDomainTakesItsKeys(t *testing.T) {
	f, keys := setUp(t), new(words)
	f.mustDo(t, f.AddDomain(bg, "example.org.uk"))
	for _, name := range []string{"example.org", "example.org.uk"} {
		_, err := f.NextKeys(bg, name)
		f.mustDo(t, err, f.Set(bg, name, map[string]string{"dmarc": "reject"}))
	}
	f.mustDo(t, f.RemoveDomain(bg, "example.org"))
	_, err := f.Keys(bg, "example.org")
	wantKind(t, "gone", err, fault.NotFound)
	f.mustDo(t, f.AddDomain(bg, "example.org"))
	all, err := f.Keys(bg, "example.org")
	keys.want(t, all, err, "")
	all, err = f.Keys(bg, "example.org.uk")
	keys.want(t, all, err, "a-ed next, a-rsa next")
	for name, want := range map[string]string{"example.org": "none", "example.org.uk": "reject"} {
		if s, err := f.Settings(bg, name); err != nil || s.DMARC != want {
			t.Errorf("%s: %v %v", name, s.DMARC, err)
		}
	}
}

func TestSettings(t *testing.T) {
	f := setUp(t)
	want := Settings{
		Domain: "example.org", Sign: true, SignWith: "both", DMARC: "none", DMARCReports: "postmaster@example.org",
		MTASTS: "testing", MTASTSAge: 7 * 24 * time.Hour, TLSReports: "postmaster@example.org", MigrateUser: "address", MigrateMail: "yes",
	}
	check := func() {
		t.Helper()
		if s, err := f.Settings(bg, "Example.ORG"); err != nil || s != want {
			t.Errorf("%v\n%+v\n%+v", err, s, want)
		}
	}
	check()
	f.mustDo(t, f.Set(bg, "example.org", map[string]string{"dmarc": "reject", "dmarc-reports": "-", "forged": "junk", "mta-sts-age": "48h", "send-per-day": "1000", "sign": "no", "tls-reports": "tls@example.net"}))
	want.DMARC, want.DMARCReports, want.Forged, want.MTASTSAge, want.SendPerDay, want.Sign, want.TLSReports = "reject", "", "junk", 48*time.Hour, 1000, false, "tls@example.net"
	check()
	for name, text := range map[string]string{
		"dmarc": "maybe", "sign": "true", "mta-sts-age": "-1h", "send-per-day": "many", "tls-reports": "nobody", "dmarc-reports": "a@b.example,c@d.example", "nonsense": "1",
		"migrate-from": "https://old.example", "migrate-until": "tomorrow", "migrate-user": "name", "migrate-create": "maybe", "migrate-mail": "maybe",
	} {
		wantKind(t, name, f.Set(bg, "example.org", map[string]string{"sign": "yes", name: text}), fault.Invalid)
	}
	check()
	f.mustDo(t, f.Set(bg, "example.org", map[string]string{"dmarc": "", "sign": ""}))
	want.DMARC, want.Sign = "none", true
	check()
	wantKind(t, "foreign", f.Set(bg, "example.com", map[string]string{"sign": "no"}), fault.NotFound)

	all, err := f.AllSettings(bg, "example.org")
	f.mustDo(t, err)
	for _, s := range all {
		if s.Meaning == "" || s.Name == "tls-reports" && (s.Value != "tls@example.net" || s.Default != "postmaster@example.org") {
			t.Errorf("%+v", s)
		}
	}
}

// Every default can be set, and a value of a later version is kept and does no harm.
func TestSettingRows(t *testing.T) {
	for _, row := range settingRows {
		if err := row.set(&Settings{Domain: "example.org"}, row.def); err != nil {
			t.Error(err)
		}
	}
	s := settingsOf("example.org", map[string]string{"dmarc": "of a later version", "unknown": "x", "sign": "no"})
	if s.DMARC != "none" || s.Sign {
		t.Errorf("%+v", s)
	}
	f := setUp(t)
	f.mustDo(t, f.eng.Update(bg, shard, func(w engine.Writer) error {
		return w.Put(settingsKey("example.org"), encodeSettings(map[string]string{"unknown": "x"}))
	}), f.Set(bg, "example.org", map[string]string{"sign": "no"}))
	stored, _, err := f.stored(bg, "example.org")
	if err != nil || stored["unknown"] != "x" || stored["sign"] != "no" {
		t.Errorf("%v %v", stored, err)
	}
}

// A key or settings that are damaged are told of and made anew; a domain of which they are
// all that is left is one again.
func TestRepairOfKeysAndSettings(t *testing.T) {
	eng := newEngine(t)
	f, keys := newFixture(t, eng), new(words)
	f.mustDo(t, f.AddDomain(bg, "example.org"), f.AddDomain(bg, "example.net"), f.Set(bg, "example.org", map[string]string{"sign": "no"}))
	_, err := f.MakeKeys(bg, "example.net")
	f.mustDo(t, err)
	all, err := f.MakeKeys(bg, "example.org")
	keys.want(t, all, err, "a-ed active, a-rsa active")
	spoilt := all[0].Selector
	f.Close()
	f.mustDo(t, eng.Update(bg, shard, func(w engine.Writer) error {
		for _, key := range [][]byte{signingKey("example.org", spoilt), settingsKey("example.org")} {
			value, _, err := w.Get(key)
			if err != nil {
				return err
			}
			bad := bytes.Clone(value)
			bad[len(bad)/2] ^= 1
			if err := w.Put(key, bad); err != nil {
				return err
			}
		}
		return w.Delete(domainKey("example.net"))
	}))
	var told []string
	f.mustDo(t, Repair(bg, eng, nil, nil, f.now(), func(m Mended) { told = append(told, m.Address+": "+m.What) }))
	if all := strings.Join(told, "\n"); len(told) != 3 || !strings.Contains(all, spoilt) || !strings.Contains(all, "martlet domain set") || !strings.Contains(all, "example.net: the domain was lost") {
		t.Error(all)
	}
	f.open(t)
	all, err = f.Signers(bg, "example.org")
	keys.want(t, all, err, "b-ed active, a-rsa active")
	all, err = f.Signers(bg, "example.net")
	keys.want(t, all, err, "c-ed active, c-rsa active")
	for _, problem := range f.problems(t) {
		t.Error(problem)
	}
	f.Close()
	f.mustDo(t, eng.Close())
}

func TestPublishedRecords(t *testing.T) {
	f := setUp(t)
	want := []DNSRecord{{"example.org", "MX", "10 mx.example.org"}, {"example.org", "TXT", "v=spf1 mx -all"}}
	f.mustDo(t, f.SetPublished(bg, "example.org", want))
	if got, err := f.Published(bg, "example.ORG"); err != nil || !slices.Equal(got, want) {
		t.Errorf("%v %v", got, err)
	}
	wantKind(t, "foreign", f.SetPublished(bg, "example.com", want), fault.NotFound)
	f.mustDo(t, f.SetPublished(bg, "example.org", nil))
	if got, err := f.Published(bg, "example.org"); err != nil || got != nil {
		t.Errorf("%v %v", got, err)
	}
}
