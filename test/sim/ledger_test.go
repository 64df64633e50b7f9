package sim

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"
)

// ledger is the book of what was sent, what was said about it, and what may be expected
// to be found. Each message has a token of its own.
type ledger struct {
	w  *world
	mu sync.Mutex

	texts    map[string]string // by token
	accounts map[string]*account
	out      map[destination]*outbound
	lie      bool               // what nobody knows is taken for acknowledged: it must be noticed
	refused  map[[2]string]bool // sender and recipient that a host has said 5xx to
	cuts     []time.Time        // of the power, and failures of the disk
	acked    int                // messages, each recipient and each copy counted
	unknown  int
}

// account is what one mailbox owner's messages must look like.
type account struct {
	// What was delivered by token: an account takes a message once, however often it is
	// named. unknown: it may be there, or not.
	delivered   map[string]outcome
	made, maybe map[string]int // copies made by clients: acknowledged; begun, and nobody knows
	boxes       map[string]*box
	reports     map[reported]int
}

// destination is one recipient elsewhere of one message.
type destination struct{ token, rcpt string }

// reported is what a report says of a recipient.
type reported struct {
	destination
	action  string
	expired bool // its time was over
}

// outbound is what became of a message on its way out.
type outbound struct {
	from  string
	at    time.Time // when it was sent
	acked bool
	taken []*taking
}

// taking is a message that a foreign host has taken.
type taking struct {
	l     *ledger
	read  time.Time // when our server read the answer; zero: never
	life  int       // and when it began
	began time.Time
}

func newLedger(w *world) *ledger {
	l := &ledger{w: w, texts: map[string]string{}, accounts: map[string]*account{}, out: map[destination]*outbound{}, refused: map[[2]string]bool{}}
	for _, u := range users {
		l.accounts[u] = &account{delivered: map[string]outcome{}, made: map[string]int{}, maybe: map[string]int{}, boxes: map[string]*box{}, reports: map[reported]int{}}
	}
	return l
}

// outcome of something that a client asked for.
type outcome uint8

const (
	no      outcome = iota // it was told that it is not done, or never asked to the end
	unknown                // it asked and was not told
	yes
)

// write makes the text of a message.
func (l *ledger) write(token, from string, to []string, size int) string {
	var b strings.Builder
	fmt.Fprintf(&b, "From: <%s>\r\nTo: %s\r\nSubject: %s\r\nMessage-ID: <%s@sim.test>\r\nX-Token: %s\r\n\r\n", from, strings.Join(to, ", "), token, token, token)
	for n := 0; b.Len() < size; n++ {
		fmt.Fprintf(&b, "line %d of %s, %x\r\n", n, token, uint64(n+1)*0x9e3779b97f4a7c15)
		if n%7 == 3 {
			b.WriteString("..\r\n.\r\n")
		}
	}
	fmt.Fprintf(&b, "end of %s\r\n", token)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.texts[token] = b.String()
	return b.String()
}

// sent notes what came of a message for one recipient, as clients write it.
func (l *ledger) sent(token, from, rcpt string, o outcome) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.lie && o == unknown {
		o = yes
	}
	switch o {
	case yes:
		l.acked++
	case unknown:
		l.unknown++
	}
	l.copies(rcpt, func(a *account) {
		// A refusal is no promise that nothing was kept: of two mailboxes one may have it.
		a.delivered[token] = max(a.delivered[token], o, unknown)
	})
	if o == no {
		return
	}
	if away := elsewhere(rcpt); away != "" {
		d := destination{token, away}
		if l.out[d] == nil {
			l.out[d] = &outbound{from: from, at: time.Now()}
		}
		l.out[d].acked = l.out[d].acked || o == yes
	}
}

// copies calls fn for each account that a recipient leads to.
func (l *ledger) copies(rcpt string, fn func(*account)) {
	for _, u := range users {
		if rcpt == u || rcpt == "both" {
			fn(l.accounts[u])
		}
	}
}

// elsewhere is where a recipient leads outside.
func elsewhere(rcpt string) string {
	switch {
	case rcpt == "away":
		return "amy@b.test"
	case strings.Contains(rcpt, "@"):
		return rcpt
	}
	return ""
}

// made notes a copy made by APPEND or COPY.
func (l *ledger) made(user, token string, o outcome) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch o {
	case yes:
		l.accounts[user].made[token]++
		l.acked++
	case unknown:
		l.accounts[user].maybe[token]++
		l.unknown++
	}
}

func (l *ledger) refusedBy(from, to string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.refused[[2]string{bare(from), to}] = true
}

// bare is a sender as our clients write it.
func bare(from string) string {
	from, _ = strings.CutSuffix(from, "@"+home)
	if from == "" {
		return "<>"
	}
	return from
}

// taken notes that a foreign host has a message.
func (l *ledger) taken(m letter, from string, to []string) *taking {
	l.mu.Lock()
	defer l.mu.Unlock()
	t := &taking{l: l, began: l.w.lifeBegan(), life: l.w.lifeNo()}
	if m.report {
		if from != "" {
			l.w.wrong("a report came from <%s>", from)
		}
		l.w.met("reports")
		for _, r := range m.about {
			l.w.logf("a report (%s) of %s reached %v", r.action, r.destination, to)
			if o := l.out[r.destination]; o != nil && (len(to) != 1 || to[0] != o.from) {
				l.w.wrong("a report of %v from %s went to %v", r.destination, o.from, to)
			}
		}
		return t
	}
	if why := l.damaged(m); why != "" {
		l.w.wrong("what was sent to %v: %s", to, why)
	}
	for _, rcpt := range to {
		d := destination{m.token, rcpt}
		o := l.out[d]
		if o == nil { // its sender has not been answered yet
			o = &outbound{from: bare(from), at: time.Now()}
			l.out[d] = o
		}
		if n := len(o.taken); n > 0 && o.taken[n-1].settled() {
			l.w.wrong("%s for %s was taken again, at %v; the answer of %v had been read", m.token, rcpt, l.w.clock(), o.taken[n-1].read.Sub(l.w.began))
		}
		o.taken = append(o.taken, t)
		l.w.logf("%s: %s is there", rcpt, m.token)
	}
	return t
}

func (t *taking) seen() {
	t.l.mu.Lock()
	defer t.l.mu.Unlock()
	t.read = time.Now()
}

// settled tells whether our server knew, and had a second to write it down.
func (t *taking) settled() bool {
	if t.read.IsZero() {
		return false
	}
	for _, cut := range t.l.cuts {
		if d := cut.Sub(t.read); d > -time.Millisecond && d < time.Second {
			return false
		}
	}
	since := int(t.read.Sub(t.began).Milliseconds())
	for _, f := range t.l.w.s.Lives[t.life].Faults {
		if (f.Kind == "full" || f.Kind == "slow") && f.From <= since && since < f.To+f.By+2_000 {
			return false
		}
	}
	return true
}

// damaged says what is wrong with the bytes of a message; "" is nothing. It needs the lock.
func (l *ledger) damaged(m letter) string {
	want, ok := l.texts[m.token]
	if !ok {
		return fmt.Sprintf("a message that nobody has sent: token %q", m.token)
	}
	if !strings.HasSuffix(m.text, want) {
		return fmt.Sprintf("%s was changed on its way", m.token)
	}
	return ""
}

// letter is what can be read from a message.
type letter struct {
	text   string
	token  string
	report bool
	about  []reported
}

func readLetter(text string) letter {
	m := letter{text: text}
	head, body, _ := strings.Cut(text, "\r\n\r\n")
	m.token = field(head, "X-Token")
	if field(head, "Auto-Submitted") == "" {
		return m
	}
	m.report = true
	token := field(body, "X-Token")
	for _, part := range strings.Split(body, "\r\n\r\n") {
		if to := field(part, "Final-Recipient"); to != "" {
			_, rcpt, _ := strings.Cut(to, "; ")
			m.about = append(m.about, reported{destination{token, rcpt}, field(part, "Action"), field(part, "Status") == "5.4.7"})
		}
	}
	return m
}

func field(head, name string) string {
	for line := range strings.SplitSeq(head, "\r\n") {
		if v, ok := strings.CutPrefix(line, name+": "); ok {
			return v
		}
	}
	return ""
}

// count compares the copies found in an account with the book. found maps tokens to
// copies, reports says which reports are there.
func (l *ledger) count(user string, found map[string]int, reports map[reported]int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	a := l.accounts[user]
	a.reports = reports
	gone, surely := a.removals()
	low, high := maps.Clone(a.made), maps.Clone(a.maybe)
	for token, o := range a.delivered {
		if o == yes {
			low[token]++
		} else {
			high[token]++
		}
	}
	tokens := map[string]int{}
	for _, m := range []map[string]int{low, high, found} {
		maps.Copy(tokens, m)
	}
	for _, token := range slices.Sorted(maps.Keys(tokens)) {
		low, high := low[token]-gone[token], low[token]+high[token]-surely[token]
		if n := found[token]; n < low {
			l.w.lost(fmt.Sprintf("%s: %s is there %d times, and must be at least %d times", user, token, n, low))
		} else if n > high {
			l.w.dup(fmt.Sprintf("%s: %s is there %d times, and may be at most %d times", user, token, n, high))
		}
	}
	for r, n := range reports {
		if o := l.out[r.destination]; o != nil && o.from != user {
			l.w.wrong("%s has a report of %v, which is from %s", user, r.destination, o.from)
		}
		if n > 1 {
			l.w.dup(fmt.Sprintf("%s: %d reports (%s) of %v", user, n, r.action, r.destination))
		}
	}
}

// removals counts the copies that may have been expunged, and those that must have been.
func (a *account) removals() (gone, surely map[string]int) {
	gone, surely = map[string]int{}, map[string]int{}
	for _, b := range a.boxes {
		for uid, token := range b.removing {
			gone[token]++
			if b.removed[uid] && !b.moving[uid] {
				surely[token]++
			}
		}
	}
	return gone, surely
}

// outgoing judges all mail for elsewhere, when nothing waits any more.
func (l *ledger) outgoing() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, a := range l.accounts {
		for range a.reports {
			l.w.met("reports")
		}
	}
	for d, o := range l.out {
		said, over := 0, 0 // reports of failure: of a verdict, of time
		sender := l.accounts[o.from]
		if sender != nil {
			said, over = sender.reports[reported{d, "failed", false}], sender.reports[reported{d, "failed", true}]
		}
		if said+over > 1 {
			l.w.dup(fmt.Sprintf("%v: %d reports of failure", d, said+over))
		}
		for _, t := range o.taken {
			if said+over > 0 && t.settled() {
				l.w.wrong("%v: a report of failure, though a host has taken it", d)
			}
		}
		refused, old := l.mayRefuse(d, o), l.mayExpire(o)
		switch {
		case said > 0 && !refused:
			l.w.wrong("%v: a report of failure, and nothing had failed for good", d)
		case over > 0 && !old:
			l.w.wrong("%v was given up before its time", d)
		case !o.acked || len(o.taken) > 0 || said+over > 0:
		case sender == nil && (refused || old): // nobody here is told
		default:
			l.w.lost(fmt.Sprintf("%v from %s: no host has it, and no report of failure came", d, o.from))
		}
	}
}

// mayRefuse tells whether anybody has said that it can never be delivered.
func (l *ledger) mayRefuse(d destination, o *outbound) bool {
	_, domain, _ := strings.Cut(d.rcpt, "@")
	return l.refused[[2]string{o.from, d.rcpt}] || l.w.denied(domain)
}

func (l *ledger) mayExpire(o *outbound) bool {
	return l.w.stepped() || time.Since(o.at) >= lifetime-time.Minute
}
