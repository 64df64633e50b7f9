package store

import (
	"context"
	"iter"
	"slices"
	"sort"
	"sync"

	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/mail"
)

// Picture is an open mailbox as of one modseq: immutable, in memory, shared by all
// sessions of the process. A session keeps the one it last told its client of; at
// its next sync it takes the present one (Account.Picture), asks Diff what to tell,
// and keeps only what it may not tell yet (expunges during FETCH, STORE, SEARCH).
//
// Memory: about 50 bytes a message, shared page by page with earlier and later
// Pictures of the mailbox.
type Picture struct {
	box     Mailbox
	numbers []uint64 // page numbers, rising
	pages   []*page
	before  []uint32 // messages before each page; one more entry than pages: the total
}

func newPicture(box Mailbox, numbers []uint64, pages []*page) *Picture {
	p := &Picture{box: box, numbers: numbers, pages: pages, before: make([]uint32, len(pages)+1)}
	for i, pg := range pages {
		p.before[i+1] = p.before[i] + uint32(pg.len())
	}
	return p
}

// Mailbox returns the mailbox record as of the picture.
func (p *Picture) Mailbox() Mailbox { return p.box }

// ModSeq returns the modseq of the last change that the picture shows.
func (p *Picture) ModSeq() mail.ModSeq { return p.box.HighestModSeq }

// Len returns the number of messages.
func (p *Picture) Len() int { return int(p.before[len(p.pages)]) }

// find returns the index of the first page whose number is not below n.
func (p *Picture) find(n uint64) int {
	return sort.Search(len(p.numbers), func(i int) bool { return p.numbers[i] >= n })
}

// at returns the page and row of a UID.
func (p *Picture) at(uid mail.UID) (i, row int, ok bool) {
	i = p.find(pageOf(uid))
	if i == len(p.pages) || p.numbers[i] != pageOf(uid) {
		return i, 0, false
	}
	row, ok = p.pages[i].row(uid)
	return i, row, ok
}

// Seq returns the message sequence number of a UID, counting from 1; if there is no
// such message, that of the next one.
func (p *Picture) Seq(uid mail.UID) (seq int, ok bool) {
	i, row, ok := p.at(uid)
	return int(p.before[i]) + row + 1, ok
}

// UID returns the UID of a sequence number from 1 to Len, or 0.
func (p *Picture) UID(seq int) mail.UID {
	if seq < 1 || seq > p.Len() {
		return 0
	}
	i := sort.Search(len(p.pages), func(i int) bool { return int(p.before[i+1]) >= seq })
	return p.pages[i].uidOf(p.numbers[i], seq-1-int(p.before[i]))
}

// Message returns the row of a UID.
func (p *Picture) Message(uid mail.UID) (Message, bool) {
	i, row, ok := p.at(uid)
	if !ok {
		return Message{}, false
	}
	return p.pages[i].message(uid, row), true
}

// Messages yields the messages of the set with their sequence numbers, in order.
func (p *Picture) Messages(set mail.UIDSet) iter.Seq2[int, Message] {
	return func(yield func(int, Message) bool) {
		for _, r := range set {
			for i := p.find(pageOf(r.From)); i < len(p.pages) && p.numbers[i] <= pageOf(r.To); i++ {
				if !p.yieldPage(i, r, yield) {
					return
				}
			}
		}
	}
}

func (p *Picture) yieldPage(i int, r mail.Range, yield func(int, Message) bool) bool {
	pg := p.pages[i]
	row := 0
	for m := pg.present; m != 0; m &= m - 1 {
		uid := lowestUID(p.numbers[i], m)
		if uid >= r.From && uid <= r.To && !yield(int(p.before[i])+row+1, pg.message(uid, row)) {
			return false
		}
		row++
	}
	return true
}

// All returns the set of all UIDs there can be.
func All() mail.UIDSet { return mail.UIDSet{{From: 1, To: 1<<32 - 1}} }

// Existing returns those UIDs of a set that have a message. It costs what exists,
// not what the set spans.
func (p *Picture) Existing(set mail.UIDSet) mail.UIDSet {
	var out mail.UIDSet
	for _, m := range p.Messages(set) {
		out.Add(m.UID)
	}
	return out
}

// Before returns the picture without the messages from a UID on, with the mailbox
// record as it is.
func (p *Picture) Before(uid mail.UID) *Picture {
	n := p.find(pageOf(uid))
	if n == len(p.pages) {
		return p
	}
	numbers, pages := slices.Clone(p.numbers[:n]), slices.Clone(p.pages[:n])
	if p.numbers[n] == pageOf(uid) {
		cut := p.pages[n].before(uid)
		if cut == p.pages[n] && n+1 == len(p.pages) {
			return p
		}
		if cut.len() > 0 {
			numbers, pages = append(numbers, p.numbers[n]), append(pages, cut)
		}
	}
	return newPicture(p.box, numbers, pages)
}

// BySeq returns the UIDs of sequence numbers from to to.
func (p *Picture) BySeq(from, to int) mail.UIDSet {
	from, to = max(from, 1), min(to, p.Len())
	if from > to {
		return nil
	}
	return p.Existing(mail.UIDSet{{From: p.UID(from), To: p.UID(to)}})
}

// Keywords returns the names of a message's keywords.
func (p *Picture) Keywords(m Message) []string { return p.box.keywordNames(m.Keywords) }

// AppendFlags appends flags and keywords as IMAP writes them, separated by spaces.
func (p *Picture) AppendFlags(b []byte, m Message) []byte {
	b = m.Flags.Append(b)
	if m.Keywords == "" {
		return b
	}
	for i, k := range p.box.Keywords {
		if !m.Keywords.Has(i) {
			continue
		}
		if len(b) > 0 && b[len(b)-1] != '(' {
			b = append(b, ' ')
		}
		b = append(b, k...)
	}
	return b
}

// HasKeyword returns a test for a keyword, in any case.
func (p *Picture) HasKeyword(name string) func(Message) bool {
	want := p.box.knownKeywords([]string{name})
	return func(m Message) bool { return want != "" && m.Keywords.with(want, false) != m.Keywords }
}

// FirstUnseen returns the sequence number of the first message without \Seen, or 0.
func (p *Picture) FirstUnseen() int {
	if p.box.Unseen == 0 {
		return 0
	}
	for i, pg := range p.pages {
		for row, f := range pg.flags {
			if !f.Has(mail.Seen) {
				return int(p.before[i]) + row + 1
			}
		}
	}
	return 0
}

// ChangedSince returns the UIDs of messages whose modseq is above the given one.
func (p *Picture) ChangedSince(mod mail.ModSeq) mail.UIDSet {
	var out mail.UIDSet
	for i, pg := range p.pages {
		for row, m := range pg.mods {
			if m > uint64(mod) {
				out.Add(pg.uidOf(p.numbers[i], row))
			}
		}
	}
	return out
}

// Difference is what happened between two pictures of a mailbox.
type Difference struct {
	Expunged mail.UIDSet // in the old one and not in the new
	Arrived  mail.UIDSet // in the new one and not in the old
	Changed  mail.UIDSet // in both, with another modseq
	Keywords bool        // the mailbox has more keywords than before
}

// IsEmpty tells whether nothing happened.
func (d *Difference) IsEmpty() bool {
	return d.Expunged.IsEmpty() && d.Arrived.IsEmpty() && d.Changed.IsEmpty()
}

// Diff compares two pictures of one mailbox. Pages they share cost one comparison.
func Diff(old, now *Picture) Difference {
	d := Difference{Keywords: len(now.box.Keywords) > len(old.box.Keywords)}
	if old == now {
		return d
	}
	var none page
	i, j := 0, 0
	for i < len(old.pages) || j < len(now.pages) {
		switch {
		case j == len(now.pages) || i < len(old.pages) && old.numbers[i] < now.numbers[j]:
			d.page(old.numbers[i], old.pages[i], &none)
			i++
		case i == len(old.pages) || now.numbers[j] < old.numbers[i]:
			d.page(now.numbers[j], &none, now.pages[j])
			j++
		default:
			if old.pages[i] != now.pages[j] {
				d.page(old.numbers[i], old.pages[i], now.pages[j])
			}
			i++
			j++
		}
	}
	return d
}

func (d *Difference) page(number uint64, old, now *page) {
	for bits := old.present | now.present; bits != 0; bits &= bits - 1 {
		uid := lowestUID(number, bits)
		was, had := old.row(uid)
		is, has := now.row(uid)
		switch {
		case !has:
			d.Expunged.Add(uid)
		case !had:
			d.Arrived.Add(uid)
		case old.mods[was] != now.mods[is]:
			d.Changed.Add(uid)
		}
	}
}

// boxState holds the present picture of a mailbox and serves the sessions that ask.
type boxState struct {
	mu         sync.Mutex // held while a picture is made, so that it is made once
	picture    *Picture
	base       *Picture // of a guest's: the picture it was made of
	generation uint64   // of the account when the picture was known to be true
	recent     mail.UID
	use        pictureUse
}

// Picture returns the mailbox as it is now; what it shows is durable. If nothing
// has changed since the last call it costs two atomic reads and a lock. Faults:
// NotFound if the mailbox has been deleted.
func (a *Account) Picture(ctx context.Context, box mail.MailboxID) (*Picture, error) {
	s := a.box(box)
	s.mu.Lock()
	defer s.mu.Unlock()
	generation := a.generation.Load()
	if s.picture == nil || s.generation != generation {
		if err := a.roll(ctx, box, s); err != nil {
			return nil, err
		}
		s.generation = generation
	}
	a.store.pictures.used(s)
	return s.picture, nil
}

func (a *Account) box(id mail.MailboxID) *boxState {
	a.mu.Lock()
	defer a.mu.Unlock()
	key := boxKey{id, a.guest()}
	s := a.boxes[key]
	if s == nil {
		s = &boxState{}
		a.boxes[key] = s
	}
	return s
}

// roll makes the present picture from an earlier one, or from nothing. A guest's is
// made of the owner's.
func (a *Account) roll(ctx context.Context, box mail.MailboxID, state *boxState) error {
	guest, base := a.guest(), state.picture
	if guest != 0 {
		var err error
		if base, err = a.As(0).Picture(ctx, box); err != nil {
			return err
		}
	}
	var now, seen *Picture
	err := a.View(ctx, func(s *Snapshot) (err error) {
		if now, err = s.roll(box, base); err != nil || guest == 0 {
			return err
		}
		if seen = state.picture; seen == nil || state.base != now {
			seen, err = s.asGuest(now, state.base, state.picture, guest)
		}
		return err
	})
	switch {
	case err != nil:
		return err
	case guest == 0:
		state.picture = now
	default:
		state.picture, state.base = seen, now
	}
	return nil
}

// roll makes the picture of the snapshot from an earlier one, or from nothing.
func (s *Snapshot) roll(box mail.MailboxID, old *Picture) (*Picture, error) {
	m, err := s.mailbox(box)
	if err != nil {
		return nil, err
	}
	if old == nil {
		return s.load(m)
	}
	if m.HighestModSeq == old.box.HighestModSeq {
		if m.Name != old.box.Name || m.Role != old.box.Role || !slices.Equal(m.Grants, old.box.Grants) {
			return newPicture(m, old.numbers, old.pages), nil
		}
		return old, nil
	}
	c, err := changes(s.r, &m, old.box.HighestModSeq)
	if err != nil {
		return nil, err
	}
	if c.Complete {
		return s.forward(m, old, &c)
	}
	return s.load(m)
}

// load reads all pages of a mailbox.
func (s *Snapshot) load(m Mailbox) (*Picture, error) {
	var numbers []uint64
	var pages []*page
	var bad error
	err := s.r.Scan(pageKey(m.ID, 0), pageKey(m.ID+1, 0), false, func(k, v []byte) bool {
		var pg *page
		if pg, bad = decodePage(v); bad != nil {
			return false
		}
		numbers = append(numbers, engine.Num(k, 1))
		pages = append(pages, pg)
		return true
	})
	if err == nil {
		err = bad
	}
	if err != nil {
		return nil, err
	}
	return newPicture(m, numbers, pages), nil
}

// forward reads the pages that changed and shares all others.
func (s *Snapshot) forward(m Mailbox, old *Picture, c *Changes) (*Picture, error) {
	touched := map[uint64]bool{}
	for _, set := range [...]mail.UIDSet{c.Arrived, c.Changed, c.Expunged} {
		for _, r := range set {
			for n := pageOf(r.From); n <= pageOf(r.To); n++ {
				touched[n] = true
			}
		}
	}
	if len(touched) > len(old.pages)/2+64 {
		return s.load(m)
	}
	numbers, pages := slices.Clone(old.numbers), slices.Clone(old.pages)
	for n := range touched {
		pg, err := s.page(m.ID, n)
		if err != nil {
			return nil, err
		}
		i, found := slices.BinarySearch(numbers, n)
		switch {
		case pg == nil && found:
			numbers, pages = slices.Delete(numbers, i, i+1), slices.Delete(pages, i, i+1)
		case pg != nil && found:
			pages[i] = pg
		case pg != nil:
			numbers, pages = slices.Insert(numbers, i, n), slices.Insert(pages, i, pg)
		}
	}
	return newPicture(m, numbers, pages), nil
}

// ClaimRecent returns the first UID that no session of this process has been told
// of yet, and takes all up to the picture's UIDNEXT for the caller (RFC 3501,
// 2.3.2: \Recent). What arrived before the process started is not recent.
func (a *Account) ClaimRecent(p *Picture) mail.UID {
	s := a.box(p.box.ID)
	s.mu.Lock()
	defer s.mu.Unlock()
	from := s.recentFrom(p, a.store.started)
	s.recent = max(from, p.box.UIDNext)
	return from
}

// RecentFrom is ClaimRecent without the claim, for EXAMINE.
func (a *Account) RecentFrom(p *Picture) mail.UID {
	s := a.box(p.box.ID)
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.recentFrom(p, a.store.started)
}

// Recent returns how many messages ClaimRecent would find, claiming none. It opens
// the mailbox: only clients of the old \Recent ask.
func (a *Account) Recent(ctx context.Context, box mail.MailboxID) (int, error) {
	p, err := a.Picture(ctx, box)
	if err != nil {
		return 0, err
	}
	seq, _ := p.Seq(a.RecentFrom(p))
	return p.Len() - seq + 1, nil
}

func (s *boxState) recentFrom(p *Picture, started int64) mail.UID {
	if s.recent != 0 {
		return s.recent
	}
	from := p.box.UIDNext
	for seq := p.Len(); seq > 0; seq-- {
		m, _ := p.Message(p.UID(seq))
		if m.Saved < started {
			break
		}
		from = m.UID
	}
	return from
}
