package publish

import (
	"context"
	"crypto/rand"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/martlet-mail/martlet/internal/directory"
	"github.com/martlet-mail/martlet/internal/engine/pebble"
	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/store"
)

// noMail is Data of a directory without accounts.
type noMail struct{}

func (noMail) Provided(ctx context.Context, _ uint64, _ func(context.Context) error, _ func() error) context.Context {
	return ctx
}
func (noMail) CreateAccount(context.Context, mail.AccountID, store.Quota) error { return nil }
func (noMail) DeleteAccount(context.Context, mail.AccountID) error              { return nil }

// people is a directory with example.org in it, whose clock the test has.
func people(t *testing.T, clock *time.Time) *directory.Directory {
	t.Helper()
	now := func() time.Time { return *clock }
	eng, err := pebble.Open("data", pebble.Options{Now: now, FS: vfs.NewMem(), CacheBytes: 1 << 20, MemTableBytes: 256 << 10})
	if err != nil {
		t.Fatal(err)
	}
	d, err := directory.Open(context.Background(), eng, noMail{}, directory.Options{Now: now, Rand: rand.Reader})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close(); eng.Close() })
	if err := d.AddDomain(context.Background(), "example.org"); err != nil {
		t.Fatal(err)
	}
	return d
}

func stand(t *testing.T, d *directory.Directory) string {
	t.Helper()
	keys, err := d.Keys(context.Background(), "example.org")
	if err != nil {
		t.Fatal(err)
	}
	var words []string
	for _, k := range keys {
		words = append(words, k.Selector+" "+k.State.String())
	}
	return strings.Join(words, ", ")
}

// signsVerifiably holds what a rotation promises at every moment: what signs now can be
// verified by the DNS, and so can what has signed in the last 14 days.
func signsVerifiably(t *testing.T, k Keeper) {
	t.Helper()
	all, err := k.Directory.Keys(context.Background(), "example.org")
	if err != nil {
		t.Fatal(err)
	}
	signers, err := k.Directory.Signers(context.Background(), "example.org")
	if err != nil || len(signers) != 2 {
		t.Fatalf("%d keys sign, %v", len(signers), err)
	}
	missing, err := k.Missing(context.Background(), append(signers, inState(all, directory.KeyRetired)...))
	if err != nil || missing != nil {
		t.Errorf("at %v not in the DNS: %v %v", k.Now(), missing, err)
	}
}

// With a name server that it may change, the server follows its keys by itself, and there is
// no hour at which a signature cannot be verified.
func TestKeeperRotatesByItself(t *testing.T) {
	u, client := startKnot(t, "$ORIGIN example.org.\n$TTL 300\n@ SOA ns hostmaster 1 3600 600 86400 60\n@ NS ns\nns A 127.0.0.1\n")
	clock := time.Now() // Knot looks at the time of a change
	started := clock
	d := people(t, &clock)
	u.Now = time.Now
	k := Keeper{Directory: d, Resolver: client, Updater: u, Rotate: 180 * 24 * time.Hour, Now: func() time.Time { return clock }}
	ctx := context.Background()
	if _, err := d.MakeKeys(ctx, "example.org"); err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for hour := 0; hour < 220*24; hour += 6 {
		clock = started.Add(time.Duration(hour) * time.Hour)
		if hour > 0 && hour < 180*24 && hour != 6 {
			continue
		}
		if _, err := k.Tend(ctx, "example.org"); err != nil {
			t.Fatal(err)
		}
		signsVerifiably(t, k)
		seen[inStates(stand(t, d))] = true
	}
	for _, want := range []string{"active active", "active active next next", "retired retired active active", "gone gone active active"} {
		if !seen[want] {
			t.Errorf("it never stood so: %s; but so: %v", want, seen)
		}
	}
	keys, err := d.Keys(ctx, "example.org")
	if err != nil {
		t.Fatal(err)
	}
	if texts, _, err := client.LookupTXT(ctx, DKIMName(keys[0])); !fault.Is(err, fault.NotFound) {
		t.Errorf("the key that is gone is still there: %q %v", texts, err)
	}
}

// inStates are the states alone, in order of selectors.
func inStates(stand string) string {
	var words []string
	for _, key := range strings.Split(stand, ", ") {
		_, state, _ := strings.Cut(key, " ")
		words = append(words, state)
	}
	return strings.Join(words, " ")
}

// Of a domain that signs nothing no key is made, published or begins to sign; one whose time is
// over goes, and when it signs again the next keys have to be seen anew.
func TestKeeperOfADomainThatDoesNotSign(t *testing.T) {
	u, client := startKnot(t, "$ORIGIN example.org.\n$TTL 300\n@ SOA ns hostmaster 1 3600 600 86400 60\n@ NS ns\nns A 127.0.0.1\n")
	clock := time.Now()
	d := people(t, &clock)
	k := Keeper{Directory: d, Resolver: client, Updater: u, Rotate: 180 * 24 * time.Hour, Now: func() time.Time { return clock }}
	ctx := context.Background()
	tend := func(after time.Duration, want string) {
		t.Helper()
		clock = clock.Add(after)
		if _, err := k.Tend(ctx, "example.org"); err != nil {
			t.Fatal(err)
		}
		if got := inStates(stand(t, d)); got != want {
			t.Errorf("%s, not %s", got, want)
		}
	}
	sign := func(yes string) {
		t.Helper()
		if err := d.Set(ctx, "example.org", map[string]string{"sign": yes}); err != nil {
			t.Fatal(err)
		}
	}
	inDNS := func(want int) {
		t.Helper()
		if made, err := d.Published(ctx, "example.org"); err != nil || len(made) != want {
			t.Errorf("%d records, not %d: %v %v", len(made), want, made, err)
		}
	}
	sign("no")
	if _, err := d.MakeKeys(ctx, "example.org"); err != nil {
		t.Fatal(err)
	}
	tend(0, "active active")
	inDNS(0)
	sign("yes")
	tend(0, "active active")
	inDNS(2)
	tend(181*24*time.Hour, "active active next next")
	tend(0, "active active next next")
	inDNS(4)
	sign("no")
	tend(24*time.Hour, "active active next next")
	sign("yes")
	tend(24*time.Hour, "active active next next")
	tend(settled, "retired retired active active")
	sign("no")
	tend(200*24*time.Hour, "gone gone active active")
	inDNS(2)
}

// Without one, the next keys wait until somebody has published them.
func TestKeeperWaitsForPeople(t *testing.T) {
	clock := time.Unix(1_800_000_000, 0)
	d := people(t, &clock)
	client, server := resolver(t, "")
	k := Keeper{Directory: d, Resolver: client, Rotate: 180 * 24 * time.Hour, Now: func() time.Time { return clock }}
	ctx := context.Background()
	tend := func() {
		t.Helper()
		if _, err := k.Tend(ctx, "example.org"); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := d.MakeKeys(ctx, "example.org"); err != nil {
		t.Fatal(err)
	}
	clock = clock.AddDate(1, 0, 0)
	tend()
	if got := inStates(stand(t, d)); got != "active active" {
		t.Errorf("keys that nobody can publish were made: %s", got)
	}
	next, err := d.NextKeys(ctx, "example.org")
	if err != nil {
		t.Fatal(err)
	}
	clock = clock.AddDate(0, 1, 0)
	tend()
	if got := inStates(stand(t, d)); got != "active active next next" {
		t.Errorf("keys sign that are not published: %s", got)
	}
	var zone strings.Builder
	for _, n := range next {
		r := Record{DKIMName(n), "TXT", DKIMText(n), Must, ""}
		zone.WriteString(r.Name + ". TXT " + r.Data() + "\n")
	}
	if err := server.SetZone(zone.String()); err != nil {
		t.Fatal(err)
	}
	tend()
	if got := inStates(stand(t, d)); got != "active active next next" {
		t.Errorf("keys sign as soon as one server has them: %s", got)
	}
	clock = clock.Add(settled - time.Minute)
	if err := server.SetZone(""); err != nil { // a secondary has not got them, or they are lost
		t.Fatal(err)
	}
	tend()
	if err := server.SetZone(zone.String()); err != nil {
		t.Fatal(err)
	}
	clock = clock.Add(time.Hour)
	tend()
	if got := inStates(stand(t, d)); got != "active active next next" {
		t.Errorf("keys that had vanished sign as soon as they are seen again: %s", got)
	}
	clock = clock.Add(settled)
	tend()
	if got := inStates(stand(t, d)); got != "retired retired active active" {
		t.Error(got)
	}
	if next, err = d.NextKeys(ctx, "example.org"); err != nil {
		t.Fatal(err)
	}
	if err := server.SetZone("! servfail " + DKIMName(inState(next, directory.KeyNext)[0])); err != nil {
		t.Fatal(err)
	}
	if _, err := k.Tend(ctx, "example.org"); !fault.Is(err, fault.Unavailable) {
		t.Errorf("a DNS that fails: %v", err)
	}
}
