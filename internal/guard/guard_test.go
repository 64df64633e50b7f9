package guard

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/engine/pebble"
	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
)

type post struct {
	*Guard
	t   *testing.T
	eng engine.Engine
	now time.Time
}

func newPost(t *testing.T, change func(*Options)) *post {
	t.Helper()
	p := &post{t: t, now: time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)}
	eng, err := pebble.Open("data", pebble.Options{FS: vfs.NewMem(), Now: func() time.Time { return p.now }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { eng.Close() })
	p.eng = eng
	o := Options{Engine: eng, Now: func() time.Time { return p.now }, Greylist: 5 * time.Minute}
	if change != nil {
		change(&o)
	}
	p.Guard = New(o)
	return p
}

func addr(s string) mail.Address {
	if s == "" {
		return mail.Address{}
	}
	a, err := mail.ParseAddress(s)
	if err != nil {
		panic(err)
	}
	return a
}

// comes brings one recipient and tells whether it passes.
func (p *post) comes(peer, from, to string) bool {
	p.t.Helper()
	err := p.Recipient(context.Background(), netip.MustParseAddr(peer), addr(from), addr(to))
	if err != nil && !fault.Is(err, fault.Limited) {
		p.t.Fatal(err)
	}
	return err == nil
}

func TestGreylisting(t *testing.T) {
	p := newPost(t, nil)
	const host, from, to = "192.0.2.7", "alice@far.test", "bob@here.test"
	for _, step := range []struct {
		after          time.Duration
		peer, from, to string
		passes         bool
	}{
		{0, host, from, to, false},
		{time.Minute, host, from, to, false},                         // too soon
		{4*time.Minute + time.Second, "192.0.2.200", from, to, true}, // a neighbour, in time
		{0, host, "ALICE@FAR.test", "BOB@here.test", false},          // local parts of senders are their own
		{0, host, "alice@FAR.test", "BOB@here.test", true},           // but not domains, nor ours
		{0, host, from, "carol@here.test", false},                    // another recipient
		{0, host, "bounce-1@far.test", to, false},                    //
		{6 * time.Minute, host, "bounce-22@far.test", to, true},      // the number changes
		{25 * time.Hour, host, from, "carol@here.test", false},       // too late: it begins anew
		{6 * time.Minute, host, from, "carol@here.test", true},       //
		{0, "2001:db8::1", "", to, false},                            // a report
		{6 * time.Minute, "2001:db8:0:ffff::9", "", to, true},        // the same /48
		{36 * 24 * time.Hour, host, from, to, false},                 // not seen for long
	} {
		p.now = p.now.Add(step.after)
		if got := p.comes(step.peer, step.from, step.to); got != step.passes {
			t.Fatalf("%s <%s> to <%s> at %v passes: %v", step.peer, step.from, step.to, p.now, got)
		}
	}
}

// A network whose mail came again often enough is known; what is known survives a restart.
func TestKnownNetwork(t *testing.T) {
	p := newPost(t, nil)
	for i := range enough {
		to := fmt.Sprintf("%c@here.test", 'a'+i)
		if p.comes("192.0.2.7", "alice@far.test", to) {
			t.Fatalf("message %d passes at once", i)
		}
		p.now = p.now.Add(6 * time.Minute)
		if !p.comes("192.0.2.7", "alice@far.test", to) {
			t.Fatalf("message %d does not pass the second time", i)
		}
	}
	p.Guard = New(p.opt)
	if !p.comes("192.0.2.9", "eve@other.test", "new@here.test") {
		t.Error("a known network has to wait")
	}
	if p.comes("198.51.100.1", "eve@other.test", "new@here.test") {
		t.Error("so does everybody else pass")
	}
	for range 10 { // it stays known while it goes on
		p.now = p.now.Add(20 * 24 * time.Hour)
		if !p.comes("192.0.2.9", "eve@other.test", "new@here.test") {
			t.Fatal("a network that goes on sending is forgotten")
		}
	}
}

func TestKnownByName(t *testing.T) {
	good := netip.MustParseAddr("192.0.2.7")
	p := newPost(t, func(o *Options) { o.Known = func(_ context.Context, a netip.Addr) bool { return a == good } })
	if !p.comes("192.0.2.7", "a@far.test", "b@here.test") || p.comes("192.0.2.8", "a@far.test", "b@here.test") {
		t.Error("names do not count")
	}
}

func TestOff(t *testing.T) {
	p := newPost(t, func(o *Options) { o.Greylist = 0 })
	if !p.comes("192.0.2.7", "a@far.test", "b@here.test") {
		t.Error("it is not off")
	}
	var none *Guard
	if none.Begin(netip.MustParseAddr("192.0.2.7")) != nil || none.Recipient(t.Context(), netip.Addr{}, mail.Address{}, mail.Address{}) != nil {
		t.Error("nobody guards, and somebody is stopped")
	}
}

func TestSweep(t *testing.T) {
	p := newPost(t, nil)
	p.comes("192.0.2.7", "a@far.test", "b@here.test")
	p.now = p.now.Add(6 * time.Minute)
	p.comes("192.0.2.7", "a@far.test", "b@here.test")
	for i := range 2500 {
		p.comes("192.0.2.7", fmt.Sprintf("%c%c%c@far.test", 'a'+i%26, 'a'+i/26%26, 'a'+i/676), "b@here.test")
	}
	p.now = p.now.Add(30 * time.Hour)
	gone, err := p.Sweep(t.Context())
	if err != nil || gone != 2500 {
		t.Errorf("%d went, %v; want those that did not come again", gone, err)
	}
	if !p.comes("192.0.2.7", "a@far.test", "b@here.test") {
		t.Error("what is known went, too")
	}
	p.now = p.now.Add(36 * 24 * time.Hour)
	if gone, err = p.Sweep(t.Context()); err != nil || gone != 2 {
		t.Errorf("%d went, %v; want the rest", gone, err)
	}
}

// A record that is damaged costs one more delay.
func TestDamage(t *testing.T) {
	p := newPost(t, nil)
	p.comes("192.0.2.7", "a@far.test", "b@here.test")
	p.now = p.now.Add(6 * time.Minute)
	key := tripletKey(netip.MustParseAddr("192.0.2.7"), addr("a@far.test"), addr("b@here.test"))
	err := p.eng.Update(t.Context(), Shard, func(w engine.Writer) error { return w.Put(key, []byte("nonsense")) })
	if err != nil || p.comes("192.0.2.7", "a@far.test", "b@here.test") {
		t.Errorf("it passes, %v", err)
	}
	p.now = p.now.Add(6 * time.Minute)
	if !p.comes("192.0.2.7", "a@far.test", "b@here.test") {
		t.Error("it never passes again")
	}
}

func TestRates(t *testing.T) {
	p := newPost(t, func(o *Options) { o.PerAddress, o.PerNetwork = 10, 15 })
	begin := func(s string) error { return p.Begin(netip.MustParseAddr(s)) }
	for i := range 10 {
		if err := begin("192.0.2.7"); err != nil {
			t.Fatalf("message %d: %v", i, err)
		}
	}
	if err := begin("192.0.2.7"); err == nil || !strings.Contains(fault.Say(err), "192.0.2.7/32 has sent 10 messages") {
		t.Errorf("the eleventh: %v", err)
	}
	for i := range 5 {
		if err := begin(fmt.Sprintf("192.0.2.%d", i+10)); err != nil {
			t.Errorf("neighbour %d: %v", i, err)
		}
	}
	if err := begin("192.0.2.99"); err == nil || !strings.Contains(fault.Say(err), "network 192.0.2.0/24") {
		t.Errorf("too many of a network: %v", err)
	}
	if err := begin("198.51.100.1"); err != nil {
		t.Errorf("somebody else: %v", err)
	}
	p.now = p.now.Add(6 * time.Second)
	if err := begin("192.0.2.7"); err != nil {
		t.Errorf("a while later: %v", err)
	}
	if err := begin("192.0.2.7"); err == nil {
		t.Error("it has filled too fast")
	}
	p.now = p.now.Add(-time.Hour) // a clock that is set back
	if err := begin("198.51.100.1"); err != nil {
		t.Errorf("with the clock set back: %v", err)
	}
}

// Memory is bounded, whoever comes.
func TestManyAddresses(t *testing.T) {
	p := newPost(t, func(o *Options) { o.PerAddress = 10 })
	for i := range 250_000 {
		_ = p.Begin(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}))
	}
	if n := len(p.rates.of); n > maxBlocks {
		t.Errorf("%d buckets", n)
	}
}
