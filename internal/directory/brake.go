package directory

import (
	"context"
	"net/netip"
	"strings"
	"sync"
	"time"
	"unicode"

	"golang.org/x/text/unicode/norm"

	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/syntax/sasl"
	"github.com/martlet-mail/martlet/internal/turn"
)

const (
	maxBuckets  = 100_000            // in each table of the brake
	maxFriends  = 100_000            // pairs of login and address that worked
	friendFor   = 7 * 24 * time.Hour // since the last time
	firstDelay  = 250 * time.Millisecond
	longestWait = 4 * time.Second
)

// brake slows the guessing of passwords. Each login, whether it exists or not, and
// each address has a bucket of failures that empties with time. A failure is
// answered later the fuller the bucket is, and a full bucket takes no more attempts.
//
// So that nobody can lock a person out by failing in her name, a login's bucket does
// not hold for addresses from which that login has worked lately; the address's own
// does.
//
// An attempt is counted before its password is looked at and given back if it is
// right: many at once gain nothing. Where only those that are being looked at fill a
// bucket, the next one waits for them: all of an office come back at once after a restart,
// and nothing they say is wrong.
type brake struct {
	perLogin, perAddress int
	forgive              time.Duration
	now                  func() time.Time
	sleep                func(context.Context, time.Duration) error
	shared               engine.Shared // nil: no other process counts, too

	mu        sync.Mutex
	logins    map[string]bucket
	addresses map[netip.Prefix]bucket
	friends   map[friend]time.Time
	looked    map[any]int   // attempts that are being looked at, by login and by address
	turn      chan struct{} // closed when the next of these has ended
}

type friend struct {
	login string
	from  netip.Prefix
}

// bucket holds failures; as of a time, since it leaks.
type bucket struct {
	level float64
	at    time.Time
}

func newBrake(opt Options) *brake {
	return &brake{
		perLogin: opt.FailuresPerAccount, perAddress: opt.FailuresPerAddress, forgive: opt.Forgive,
		now: opt.Now, sleep: opt.Sleep,
		logins: map[string]bucket{}, addresses: map[netip.Prefix]bucket{}, friends: map[friend]time.Time{},
		looked: map[any]int{}, turn: make(chan struct{}),
	}
}

// attempt is one try that the brake has counted.
type attempt struct {
	b       *brake
	login   string
	byLogin bool         // false: from an address that is the login's friend
	from    netip.Prefix // not valid: not counted by address
	level   float64      // of the fuller bucket
	looked  bool         // it is being looked at
}

// wait is begin for a password that is looked at right away.
func (b *brake) wait(ctx context.Context, login string, from netip.Addr) (*attempt, error) {
	for {
		a, next, err := b.look(login, from)
		if next == nil {
			return a, err
		}
		if err := await(ctx, next); err != nil {
			return nil, err
		}
	}
}

// await waits for others, and leaves the processor to those of the same address meanwhile.
func await(ctx context.Context, next <-chan struct{}) error {
	work := turn.Of(ctx)
	work.Rest()
	defer work.Resume()
	select {
	case <-next:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// look is begin, or returns what to wait for.
func (b *brake) look(login string, from netip.Addr) (*attempt, <-chan struct{}, error) {
	login = spelling(login)
	a, err := b.begin(login, from)
	b.mu.Lock()
	defer b.mu.Unlock()
	if err == nil {
		a.looked = true
		a.noteLooked(+1)
		return a, nil, nil
	}
	a = b.newAttempt(login, from)
	now := b.now()
	failed := func(k bucket, key any) float64 { return b.leaked(k, now).level - float64(b.looked[key]) }
	if a.byLogin && failed(b.logins[login], login)+1 > float64(b.perLogin) ||
		a.from.IsValid() && failed(b.addresses[a.from], a.from)+1 > float64(b.perAddress) {
		return nil, nil, err
	}
	return nil, b.turn, nil
}

// noteLooked counts the attempt among those that are being looked at, or no more.
func (a *attempt) noteLooked(n int) {
	note := func(key any) {
		if a.b.looked[key] += n; a.b.looked[key] == 0 {
			delete(a.b.looked, key)
		}
	}
	if a.byLogin {
		note(a.login)
	}
	if a.from.IsValid() {
		note(a.from)
	}
}

// ended is called when the attempt's outcome is counted. It needs the lock.
func (a *attempt) ended() {
	if !a.looked {
		return
	}
	a.looked = false
	a.noteLooked(-1)
	close(a.b.turn)
	a.b.turn = make(chan struct{})
}

// over ends the attempt, should nothing else have.
func (a *attempt) over() {
	a.b.mu.Lock()
	defer a.b.mu.Unlock()
	a.ended()
}

func (b *brake) newAttempt(login string, from netip.Addr) *attempt {
	a := &attempt{b: b, login: login, from: blockOf(from)}
	a.byLogin = login != "" && (!a.from.IsValid() || !within(b.now(), b.friends[friend{login, a.from}], friendFor))
	return a
}

// begin counts an attempt. Over the limits it is Limited, and not counted. An attempt
// that names no login ("") is counted by its address alone.
func (b *brake) begin(login string, from netip.Addr) (*attempt, error) {
	login = spelling(login)
	b.mu.Lock()
	defer b.mu.Unlock()
	a, now := b.newAttempt(login, from), b.now()
	mine, theirs := b.leaked(b.logins[login], now), b.leaked(b.addresses[a.from], now)
	if a.byLogin && mine.level+1 > float64(b.perLogin) || a.from.IsValid() && theirs.level+1 > float64(b.perAddress) {
		b.keep(a, mine, theirs)
		return nil, fault.New(fault.Limited, "too many failed logins, try again later")
	}
	a.count(+1)
	return a, nil
}

// keep writes back what has leaked: if the clock was set back, the buckets leak from now on.
func (b *brake) keep(a *attempt, mine, theirs bucket) {
	if a.byLogin {
		putBucket(b, b.logins, a.login, mine)
	}
	if a.from.IsValid() {
		putBucket(b, b.addresses, a.from, theirs)
	}
}

// count adds to the buckets that hold for the attempt.
func (a *attempt) count(n float64) {
	b, now := a.b, a.b.now()
	if a.byLogin {
		k := b.leaked(b.logins[a.login], now)
		k.level = max(0, k.level+n)
		a.level = k.level
		putBucket(b, b.logins, a.login, k)
	}
	if a.from.IsValid() {
		k := b.leaked(b.addresses[a.from], now)
		k.level = max(0, k.level+n)
		a.level = max(a.level, k.level)
		putBucket(b, b.addresses, a.from, k)
	}
}

// failed answers no sooner than the failures so far have earned.
func (a *attempt) failed(ctx context.Context) error {
	a.over()
	if err := a.tell(ctx); err != nil {
		return err
	}
	delay := firstDelay
	for i := 2.0; i <= a.level && delay < longestWait; i++ {
		delay *= 2
	}
	work := turn.Of(ctx) // there are others at this address
	work.Rest()
	defer work.Resume()
	return a.b.sleep(ctx, min(delay, longestWait))
}

// worked gives the attempt back and makes the address a friend of the login: here, and on
// other nodes if that can be written down.
func (a *attempt) worked(ctx context.Context) {
	known := a.succeeded()
	_ = a.befriend(ctx, known)
}

// succeeded returns until when the address was the login's friend before.
func (a *attempt) succeeded() (known time.Time) {
	a.b.mu.Lock()
	defer a.b.mu.Unlock()
	a.count(-1)
	a.ended()
	if !a.from.IsValid() {
		return known
	}
	known = a.b.friends[friend{a.login, a.from}]
	now := a.b.now()
	if len(a.b.friends) >= maxFriends {
		prune(a.b.friends, maxFriends, func(until time.Time) bool { return !within(now, until, friendFor) })
	}
	a.b.friends[friend{a.login, a.from}] = now.Add(friendFor)
	return known
}

// within tells whether a time until which something holds has not come, and is no farther away
// than it can be: a clock that was ahead may have set it.
func within(now, until time.Time, most time.Duration) bool {
	return now.Before(until) && until.Sub(now) <= most+most/8
}

// broken gives back an attempt that came to no answer.
func (a *attempt) broken() {
	a.b.mu.Lock()
	defer a.b.mu.Unlock()
	a.count(-1)
	a.ended()
}

func (b *brake) leaked(k bucket, now time.Time) bucket {
	if past := now.Sub(k.at); past > 0 {
		k.level = max(0, k.level-float64(past)/float64(b.forgive))
	}
	k.at = now
	return k
}

// spelling is one for all ways to write a name that a server may take for the same: composed or
// not, in any case and width, and with signs in it that nobody sees. It is what attempts are counted by, since a former server may hear of names that are not known here.
func spelling(name string) string {
	if isASCII(name) {
		return name
	}
	seen := strings.Map(func(r rune) rune {
		if unicode.In(r, unicode.Cf, unicode.Variation_Selector, unicode.Other_Default_Ignorable_Code_Point) {
			return -1
		}
		return r
	}, name)
	folded := norm.NFKC.String(strings.ToLower(norm.NFKC.String(seen)))
	if prepared, err := sasl.PrepareIdentifier(folded); err == nil {
		return prepared
	}
	return folded
}

func putBucket[K comparable](b *brake, m map[K]bucket, key K, k bucket) {
	if k.level == 0 {
		delete(m, key)
		return
	}
	if _, there := m[key]; !there && len(m) >= maxBuckets {
		prune(m, maxBuckets, func(old bucket) bool { return b.leaked(old, k.at).level == 0 })
	}
	m[key] = k
}

// blockOf returns what counts as one address: an IPv6 customer has a /64 at least.
// Loopback is none: a webmail there stands for many people.
func blockOf(from netip.Addr) netip.Prefix {
	from = from.Unmap().WithZone("")
	if from.IsLoopback() {
		return netip.Prefix{}
	}
	bits := 32
	if from.Is6() {
		bits = 64
	}
	block, err := from.Prefix(bits)
	if err != nil {
		return netip.Prefix{}
	}
	return block
}
