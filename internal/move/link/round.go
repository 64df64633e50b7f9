package link

import (
	"context"
	"encoding/base64"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/move"
	"github.com/martlet-mail/martlet/internal/store"
)

// Report is what a run has done.
type Report struct {
	Mailboxes int    `json:"mailboxes"`
	Brought   int64  `json:"brought"` // messages that came in
	Followed  int64  `json:"changed"` // messages whose flags were changed here
	Moved     int64  `json:"moved"`   // messages that were moved here
	Thrown    int64  `json:"thrown"`  // messages that went into Trash here
	Carried   int64  `json:"carried"` // changes that were made at the source
	Refused   int64  `json:"refused"` // messages that could not be brought
	Why       string `json:"why,omitempty"`
	More      bool   `json:"-"` // the source changed while it was read: it is to be read again soon
}

// Again is a target that can tie messages anew (move.Local).
type Again interface {
	Rename(ctx context.Context, list []move.Renaming) error
	Release(ctx context.Context, box, to move.Box, list []move.Leaving, throw bool) error
}

// round brings both sides into accord, once.
//
// The source is read first, so that what it changed is known here before what changed here is
// carried there. A message that is new in one mailbox and gone from another was moved: so what
// is new in a source that is known is not brought at once. All its mailboxes are read again
// before, as messages may move while they are read one after another: what was new at the
// first reading, and came from elsewhere, is gone there at the second. Then it is brought,
// and compared by its content with what is gone.
type round struct {
	rule   *Rule
	source move.Source
	target move.Target
	again  Again  // nil: a message that is moved there comes again
	mirror Mirror // nil: nothing is carried to the source
	spool  func() (store.SpoolFile, error)
	now    func() time.Time
	report Report
	look   time.Duration // that looking for changes here took

	declined map[string]declined // by mailbox and key: what was refused lately; nil: nobody remembers

	often *often // what came again and again
	beat  func() // called whenever it comes further; nil: nobody watches

	boxes    []*box
	known    bool // something was brought before
	lost     map[move.Content][]*missing
	underWay map[move.Content][]*underWay // what may have been copied there
	copied   []copied
	settled  bool // what is gone was gone at both readings, and nothing came meanwhile
}

// box is a mailbox of the source, and where it goes here.
type box struct {
	move.Mailbox
	id     move.Box
	at     move.Place
	since  []byte
	asked  asked           // what was to go into it, and may have been copied
	marked map[string]bool // by keys: those \Deleted there, if somebody asks

	prefix  string // of keys now: the UIDVALIDITY
	renewed bool   // messages were brought under another one
	broken  bool   // a message could not be brought: it is told of again the next time
	partial bool   // the source may have more than it has told of
	told           // at the last reading
	first   told   // at the one before
}

// told is what a reading has told of a mailbox.
type told struct {
	state []byte
	held  map[string]struct{} // keys of what is new
	gone  map[string]move.Content
}

// missing is a message that was brought and is no more in its mailbox there.
type missing struct {
	box  *box
	key  string
	used bool
}

func (r *round) run(ctx context.Context) error {
	if again, ok := r.target.(Again); ok {
		r.again = again
	}
	if err := r.open(ctx); err != nil {
		return err
	}
	for _, b := range r.boxes {
		if err := r.read(ctx, b, false); err != nil {
			return err
		}
	}
	r.settled = true
	if r.waits() {
		if err := r.fetch(ctx); err != nil {
			return err
		}
	}
	if err := r.follow(ctx); err != nil {
		return err
	}
	if err := r.remember(ctx); err != nil {
		return err
	}
	if r.mirror == nil {
		return nil
	}
	return r.carry(ctx)
}

// open lists the mailboxes that are linked, and makes those that are not here.
func (r *round) open(ctx context.Context) error {
	all, err := r.source.Mailboxes(ctx)
	if err != nil {
		return err
	}
	for _, m := range all {
		if !r.rule.takes(&m) {
			continue
		}
		b := &box{Mailbox: m, id: move.Box{Source: r.source.ID(), Mailbox: m.Source}}
		m.UIDValidity = 0 // new mail comes into it from elsewhere, too
		if r.rule.Into != "" {
			m.Name, m.Role = r.rule.Into, ""
		}
		if b.at, _, err = r.target.Open(ctx, b.id.Source, m); err != nil {
			return err
		}
		if b.since, err = r.target.State(ctx, b.id); err != nil {
			return err
		}
		if r.mirror != nil && r.again != nil {
			if b.asked, err = r.target.State(ctx, r.asking(b)); err != nil {
				return err
			}
		}
		if r.known = r.known || b.since != nil; !r.known {
			err = r.target.EachTie(ctx, b.id, func(move.Tie, *move.Now) error { return errEnough })
			if r.known = err == errEnough; err != nil && !r.known {
				return err
			}
		}
		r.boxes = append(r.boxes, b)
	}
	r.report.Mailboxes = len(r.boxes)
	if len(r.boxes) == 0 {
		return fault.New(fault.NotFound, "the source has no mailbox that the link's patterns mean")
	}
	return nil
}

func (r *round) further() {
	if r.beat != nil {
		r.beat()
	}
}

var errEnough = fault.New(fault.Closed, "enough")

// matches tells whether messages that are new may be ones that were moved.
func (r *round) matches() bool {
	return r.again != nil && r.rule.Server.Protocol == "imap" && r.known
}

// newestFirst is how many messages a mailbox has that is read from its end, so that people
// find today's mail first.
const newestFirst = 20_000

// read goes through a mailbox of the source; last is the reading that brings what was new at
// the first one.
func (r *round) read(ctx context.Context, b *box, last bool) error {
	v := &visitor{round: r, box: b, last: last, hold: r.matches() && !last}
	r.further()
	if !last {
		b.first = b.told
		b.told = told{held: map[string]struct{}{}, gone: map[string]move.Content{}}
	}
	if v.hold && b.since == nil { // an earlier run was cut short, and what is gone is not told
		v.seen = map[string]struct{}{}
	}
	how := move.Reading{Since: b.since}
	if b.Messages > newestFirst && b.since == nil {
		how.Order = move.NewestFirst
	}
	err := r.source.Read(ctx, b.Mailbox, how, v)
	if err == nil {
		err = v.flush(ctx)
	}
	if err == nil {
		err = v.clear(ctx)
	}
	if err != nil || !v.hold {
		return err
	}
	renewed := false
	if b.since != nil && len(b.held) > 0 { // what is new may have been brought under another UIDVALIDITY
		former, err := r.target.Former(ctx, b.id, b.prefix, "")
		if renewed = len(former) > 0; err != nil {
			return err
		}
	}
	if b.since == nil || renewed {
		if b.partial { // what is not told of may be there
			v.seen = nil
		}
		return r.unseen(ctx, b, v.seen)
	}
	return nil
}

// unseen takes for gone what a reading of the whole mailbox has not told of, and what was
// brought under another UIDVALIDITY.
func (r *round) unseen(ctx context.Context, b *box, seen map[string]struct{}) error {
	return r.target.EachTie(ctx, b.id, func(t move.Tie, _ *move.Now) error {
		if t.Message == 0 {
			return nil
		}
		prefix, _, _ := strings.Cut(t.Key, ".")
		if _, ok := seen[t.Key]; prefix != b.prefix && b.prefix != "" || seen != nil && !ok {
			b.gone[t.Key] = t.Content
			b.renewed = b.renewed || prefix != b.prefix
		}
		return nil
	})
}

// waits tells whether something is new or gone that must be looked at twice.
func (r *round) waits() bool {
	return slices.ContainsFunc(r.boxes, func(b *box) bool { return len(b.held) > 0 || len(b.gone) > 0 })
}

// fetch reads all mailboxes again, and brings what was new at the first reading.
func (r *round) fetch(ctx context.Context) error {
	only := r.onlyNews()
	for _, b := range r.boxes {
		if b == only {
			b.first = b.told
			continue
		}
		if err := r.read(ctx, b, false); err != nil {
			return err
		}
	}
	r.lost = map[move.Content][]*missing{}
	for _, b := range r.boxes {
		for _, key := range slices.Sorted(maps.Keys(b.gone)) {
			c := b.gone[key]
			r.lost[c] = append(r.lost[c], &missing{box: b, key: key})
		}
		r.settled = r.settled && b.settled()
	}
	if err := r.remaining(ctx); err != nil {
		return err
	}
	for _, b := range r.boxes {
		if len(b.first.held) == 0 {
			continue
		}
		if err := r.read(ctx, b, true); err != nil {
			return err
		}
	}
	return nil
}

// onlyNews returns the mailbox that has all the news, if they are new messages alone: it need
// not be read again to know what is gone from the others.
func (r *round) onlyNews() (only *box) {
	for _, b := range r.boxes {
		if len(b.gone) > 0 || len(b.held) > 0 && only != nil {
			return nil
		}
		if len(b.held) > 0 {
			only = b
		}
	}
	return only
}

// settled tells whether both readings have told the same.
func (b *box) settled() bool {
	if len(b.held) != len(b.first.held) || len(b.gone) != len(b.first.gone) {
		return false
	}
	for k := range b.held {
		if _, ok := b.first.held[k]; !ok {
			return false
		}
	}
	for k := range b.gone {
		if _, ok := b.first.gone[k]; !ok {
			return false
		}
	}
	return true
}

// moved looks whether a message that is new is one that is gone, now or since long. One
// from the same mailbox goes first: it has another key now.
func (r *round) moved(ctx context.Context, b *box, c move.Content) (*missing, error) {
	var found *missing
	for _, m := range r.lost[c] {
		if !m.used && (found == nil || m.box == b) {
			found = m
		}
	}
	if found != nil || !r.matches() {
		return found, nil
	}
	ties, err := r.target.Ties(ctx, r.limbo(), []string{limboKey(c)})
	if err == nil && ties[0] != nil {
		found = &missing{box: &box{id: r.limbo(), at: move.Place{ID: ties[0].Mailbox}}, key: limboKey(c)}
	}
	return found, err
}

// limbo is where ties are of messages that are in no mailbox of the source any more, under
// their content. No mailbox has this name.
func (r *round) limbo() move.Box { return move.Box{Source: r.source.ID(), Mailbox: "\x00gone"} }

func limboKey(c move.Content) string { return base64.RawURLEncoding.EncodeToString(c[:]) }

// follow lets go of what is gone at the source, when it is sure that it was not moved: into
// Trash, if asked.
func (r *round) follow(ctx context.Context) error {
	if r.again == nil || !r.settled {
		return nil
	}
	leaving := map[*box][]move.Leaving{}
	for c, list := range r.lost {
		for _, m := range list {
			if !m.used {
				leaving[m.box] = append(leaving[m.box], move.Leaving{Key: m.key, NewKey: limboKey(c)})
			}
		}
	}
	for _, b := range r.boxes {
		list := leaving[b]
		if len(list) == 0 {
			continue
		}
		slices.SortFunc(list, func(x, y move.Leaving) int { return strings.Compare(x.Key, y.Key) })
		throw := r.rule.FollowDeletes && !b.renewed // a mailbox that was made anew may not be full yet
		if err := r.again.Release(ctx, b.id, r.limbo(), list, throw); err != nil {
			return err
		}
		if throw {
			r.report.Thrown += int64(len(list))
		}
	}
	return nil
}

// remember keeps how far each mailbox was read, if all that was told of it has been done. A server
// that lists less than there is would not tell of the rest again.
func (r *round) remember(ctx context.Context) error {
	if r.awaits() {
		r.report.More = true
		return nil
	}
	for _, b := range r.boxes {
		if b.state == nil || b.broken || b.partial || string(b.state) == string(b.since) {
			continue
		}
		if !r.settled && (len(b.gone) > 0 || !b.settled()) {
			r.report.More = true
			continue
		}
		if err := r.target.SetState(ctx, b.id, b.state); err != nil {
			return err
		}
	}
	return nil
}

// declined is a message that was refused here: too large, or without room. It is not read at
// the source again and again.
type declined struct {
	until time.Time
	why   string
}

const (
	declinedFor  = time.Hour
	mostDeclined = 5_000 // of a link
)

func declinedKey(b *box, key string) string { return b.id.Mailbox + "\x00" + key }

// refuse notes a message that could not be brought.
func (r *round) refuse(b *box, why string) {
	b.broken = true
	r.report.Refused++
	if r.report.Why == "" {
		r.report.Why = why
	}
}

// wasDeclined tells whether a message need not be asked for yet.
func (r *round) wasDeclined(b *box, key string) bool {
	d, ok := r.declined[declinedKey(b, key)]
	return ok && r.now().Before(d.until)
}

// decline remembers a message that was refused.
func (r *round) decline(b *box, key, why string) {
	if r.declined == nil {
		return
	}
	if len(r.declined) >= mostDeclined {
		maps.DeleteFunc(r.declined, func(_ string, d declined) bool { return !r.now().Before(d.until) })
	}
	if len(r.declined) < mostDeclined {
		r.declined[declinedKey(b, key)] = declined{r.now().Add(declinedFor), why}
	}
}
