package store

import (
	"context"
	"maps"
	"slices"
	"sync"

	"github.com/martlet-mail/martlet/internal/mail"
)

// boxState holds the present picture of a mailbox and serves the sessions that ask.
type boxState struct {
	mu         slowLock // held while a picture is made, so that it is made once
	picture    *Picture
	base       *Picture // of a guest's: the picture it was made of
	generation uint64   // of the account when the picture was known to be true
	asked      bool     // somebody has wanted the picture since it was made
	use        pictureUse

	claims sync.Mutex // not mu: nobody waits for the disk here
	recent mail.UID
}

// Picture returns the mailbox as it is now; what it shows is durable. If nothing
// has changed since the last call it costs two atomic reads and a lock, or one look at an
// engine that others may have changed. Faults: NotFound if the mailbox has been deleted.
func (a *Account) Picture(ctx context.Context, box mail.MailboxID) (*Picture, error) {
	return a.PictureSince(ctx, box, a.store.Moment())
}

// PictureSince is Picture for who wants to see what others had done by a moment: if
// somebody has looked at the account since, and is attending to it, that is known without
// another look. Of 0 it shows at least what anything has shown here.
func (a *Account) PictureSince(ctx context.Context, box mail.MailboxID, since uint64) (*Picture, error) {
	s := a.box(box)
	if err := s.mu.LockIn(ctx); err != nil {
		return nil, err
	}
	defer s.mu.Unlock()
	proved := a.isProved(since)
	generation := a.generation.Load()
	if s.picture == nil || s.generation != generation || !proved {
		if err := a.roll(ctx, box, s); err != nil {
			return nil, err
		}
		s.generation = generation
	}
	s.asked = true
	a.store.pictures.used(s)
	return s.picture, a.stillUpon(ctx, s.picture)
}

// Known returns the mailbox of a name if that can be told without reading: if its picture
// is there and still true.
func (a *Account) Known(name string) (Mailbox, bool) {
	clean, err := CleanName(name)
	if err != nil || a.guest() != 0 || a.store.shared != nil {
		return Mailbox{}, false
	}
	a.mu.Lock()
	s := a.boxes[boxKey{a.named[clean], 0}]
	a.mu.Unlock()
	if s == nil || !s.mu.TryLock() {
		return Mailbox{}, false
	}
	defer s.mu.Unlock()
	if s.picture == nil || s.generation != a.generation.Load() || s.picture.box.Name != clean {
		return Mailbox{}, false
	}
	return s.picture.box, true
}

// maxNamed is how many names Known looks for at most.
const maxNamed = 1000

// name remembers which mailbox has a name.
func (a *Account) name(box *Mailbox) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.named == nil || len(a.named) >= maxNamed {
		a.named = map[string]mail.MailboxID{}
	}
	a.named[box.Name] = box.ID
}

func (a *Account) box(id mail.MailboxID) *boxState {
	a.mu.Lock()
	defer a.mu.Unlock()
	key := boxKey{id, a.guest()}
	s := a.boxes[key]
	if s == nil {
		s = &boxState{mu: newSlowLock()}
		a.boxes[key] = s
	}
	return s
}

// box0 is box of the owner's picture.
func (a *Account) box0(id mail.MailboxID) *boxState {
	return (&Account{accountState: a.accountState}).box(id)
}

// replace puts a picture in the place of the one that it was made of, if nobody is at it.
func (s *boxState) replace(old, now *Picture) bool {
	if !s.mu.TryLock() {
		return false
	}
	defer s.mu.Unlock()
	if s.picture != old {
		return false
	}
	s.picture, s.asked = now, false
	return true
}

// pictureAt returns the mailbox, as its owner sees it, if the picture of what is on record is
// at hand. asked tells whether anybody has wanted it since it was made.
func (a *Account) pictureAt(m *Mailbox) (p *Picture, asked bool) {
	a.mu.Lock()
	s := a.boxes[boxKey{m.ID, 0}]
	a.mu.Unlock()
	if s == nil || !s.mu.TryLock() { // who makes one may wait for this very Update
		return nil, false
	}
	defer s.mu.Unlock()
	if s.picture == nil || !s.picture.isOf(m) {
		return nil, false
	}
	return s.picture, s.asked
}

// advance takes what a Tx has made of mailboxes, now that it is durable, into the pictures
// that it began with: whoever asks for them next need not read it. Of a mailbox that
// nobody looks at it does so once and no more. generation is the account's since the change.
//
// A picture that was true before remains so: what others have changed of the mailbox
// meanwhile is in it, or is still to be told by a generation more.
func (a *Account) advance(tx *Tx, generation uint64) {
	for _, b := range tx.boxes {
		next := b.next()
		if next == nil {
			continue
		}
		if s := a.As(0).box(b.ID); s.mu.TryLock() {
			if s.picture == b.was {
				s.picture, s.asked = next, false
				if s.generation == generation-1 {
					s.generation = generation
				}
			}
			s.mu.Unlock()
		}
	}
}

// next returns the picture of what the Tx has written, nil if there is no use for it.
func (b *txBox) next() *Picture {
	if !b.asked || b.gone || b.HighestModSeq == b.was.ModSeq() {
		return nil
	}
	var touched []uint64
	var now []*sheet
	for _, number := range slices.Sorted(maps.Keys(b.marks)) {
		d := b.marks[number]
		if !d.written {
			continue
		}
		sh, err := b.nextSheet(number, d)
		if err != nil {
			return nil
		}
		touched, now = append(touched, number), append(now, sh)
	}
	return b.was.with(b.Mailbox, touched, now)
}

func (b *txBox) nextSheet(number uint64, d *marksDraft) (*sheet, error) {
	if d.isEmpty() {
		return nil, nil
	}
	sh := &sheet{marks: d.marks()}
	if was, _ := b.was.sheet(number); was != nil {
		sh.pages = was.pages
	}
	for i := range sh.pages {
		p := b.pages[number*sheetPages+uint64(i)]
		if p == nil || !p.written {
			continue
		}
		if sh.pages[i] = nil; p.record != nil {
			var err error
			if sh.pages[i], err = decodePage(p.record); err != nil {
				return nil, err
			}
		}
	}
	return sh.checked(nil)
}

// roll makes the present picture from an earlier one, or from nothing. A guest's is
// made of the owner's.
func (a *Account) roll(ctx context.Context, box mail.MailboxID, state *boxState) error {
	guest, base := a.guest(), state.picture
	if guest != 0 {
		var err error
		if base, err = a.As(0).PictureSince(ctx, box, 0); err != nil {
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
	if err != nil {
		return err
	}
	if base != nil && base.line != now.line {
		a.setBack()
	}
	if guest == 0 {
		if state.picture = now; base == nil || base.box.Name != now.box.Name {
			a.name(&now.box)
		}
		return nil
	}
	if now != base && !a.box0(box).replace(base, now) && seen != state.picture {
		seen.inLine(a.store.newLine()) // the owner's may go on otherwise from where this began
	}
	state.picture, state.base = seen, now
	return nil
}

// roll makes the picture of the snapshot from an earlier one, or from nothing.
func (s *Snapshot) roll(box mail.MailboxID, old *Picture) (*Picture, error) {
	m, err := s.mailbox(box)
	if err != nil {
		return nil, err
	}
	follows := old != nil
	if follows {
		if follows, err = s.follows(&m, old); err != nil {
			return nil, err
		}
	}
	if !follows { // or there was none
		return s.loadIn(m, s.account.store.newLine())
	}
	if m.HighestModSeq == old.box.HighestModSeq {
		if m.Name != old.box.Name || m.Role != old.box.Role || !slices.Equal(m.Grants, old.box.Grants) {
			return newPicture(m, old.numbers, old.sheets).inLine(old.line), nil
		}
		return old, nil
	}
	c, err := changes(s.r, &m, old.box.HighestModSeq)
	if err != nil {
		return nil, err
	}
	// Where the line of the old picture is gone nobody knows whether this goes on from it.
	if c.Complete && (s.account.store.shared == nil || old.box.HighestModSeq > m.LogFloor) {
		return s.forward(m, old, &c)
	}
	return s.loadIn(m, old.line)
}

func (s *Snapshot) loadIn(m Mailbox, line uint64) (*Picture, error) {
	p, err := s.load(m)
	if err == nil {
		p.inLine(line)
	}
	return p, err
}

// load reads all of a mailbox.
func (s *Snapshot) load(m Mailbox) (*Picture, error) {
	if m.Messages == 0 { // as most of many mailboxes
		return newPicture(m, nil, nil), nil
	}
	numbers, sheets, err := s.sheets(m.ID)
	if err != nil {
		return nil, err
	}
	return newPicture(m, numbers, sheets), nil
}

// forward reads the sheets that changed, and of their pages those whose messages are
// others, and shares all else.
func (s *Snapshot) forward(m Mailbox, old *Picture, c *Changes) (*Picture, error) {
	stale := map[uint64]uint64{} // by sheet a bit for each page
	for _, r := range c.Changed {
		for n := sheetOf(r.From); n <= sheetOf(r.To); n++ {
			stale[n] |= 0
		}
	}
	for _, set := range [...]mail.UIDSet{c.Arrived, c.Expunged} {
		for _, r := range set {
			for n := pageOf(r.From); n <= pageOf(r.To); n++ {
				stale[n/sheetPages] |= 1 << (n % sheetPages)
			}
		}
	}
	touched := slices.Sorted(maps.Keys(stale))
	marks, err := s.marksOf(m.ID, touched)
	if err != nil {
		return nil, err
	}
	now := make([]*sheet, len(touched))
	for k, n := range touched {
		var was *sheet
		if i := old.find(n); i < len(old.sheets) && old.numbers[i] == n {
			was = old.sheets[i]
		}
		if now[k], err = s.sheet(m.ID, n, marks[k], was, stale[n]); err != nil {
			return nil, err
		}
	}
	return old.with(m, touched, now), nil
}

// with returns the picture with some sheets in the place of those with their numbers; nil
// ones are gone. It looks at no other sheet.
func (p *Picture) with(m Mailbox, touched []uint64, now []*sheet) *Picture {
	if next := p.inPlace(m, touched, now); next != nil {
		return next
	}
	n := len(p.sheets) + len(touched)
	next := &Picture{box: m, numbers: make([]uint64, 0, n), sheets: make([]*sheet, 0, n), before: make([]uint32, 0, n+1), line: p.line}
	i, shift := 0, uint32(0)
	keep := func(to int) {
		next.numbers, next.sheets = append(next.numbers, p.numbers[i:to]...), append(next.sheets, p.sheets[i:to]...)
		for _, before := range p.before[i:to] {
			next.before = append(next.before, before+shift)
		}
		i = to
	}
	for k, n := range touched {
		keep(p.find(n))
		if now[k] != nil {
			next.numbers, next.sheets = append(next.numbers, n), append(next.sheets, now[k])
			next.before = append(next.before, p.before[i]+shift)
			shift += uint32(now[k].rows)
		}
		if i < len(p.numbers) && p.numbers[i] == n {
			shift -= uint32(p.sheets[i].rows)
			i++
		}
	}
	keep(len(p.sheets))
	next.before = append(next.before, p.before[i]+shift)
	return next
}

// inPlace is with if there were and are all of these sheets, else nil: what other pictures
// have of the list of sheets is shared.
func (p *Picture) inPlace(m Mailbox, touched []uint64, now []*sheet) *Picture {
	next := &Picture{box: m, numbers: p.numbers, sheets: slices.Clone(p.sheets), before: p.before, line: p.line}
	for k, n := range touched {
		i := p.find(n)
		if now[k] == nil || i == len(p.numbers) || p.numbers[i] != n {
			return nil
		}
		if more := uint32(now[k].rows - p.sheets[i].rows); more != 0 {
			if &next.before[0] == &p.before[0] {
				next.before = slices.Clone(p.before)
			}
			for j := i + 1; j < len(next.before); j++ {
				next.before[j] += more
			}
		}
		next.sheets[i] = now[k]
	}
	return next
}

// ClaimRecent returns the first UID that no session of this process has been told
// of yet, and takes all up to the picture's UIDNEXT for the caller (RFC 3501,
// 2.3.2: \Recent). What arrived before the process started is not recent.
func (a *Account) ClaimRecent(p *Picture) mail.UID {
	s := a.box(p.box.ID)
	s.claims.Lock()
	defer s.claims.Unlock()
	from := s.recentFrom(p, a.store.started)
	s.recent = max(from, p.box.UIDNext)
	return from
}

// RecentFrom is ClaimRecent without the claim, for EXAMINE.
func (a *Account) RecentFrom(p *Picture) mail.UID {
	s := a.box(p.box.ID)
	s.claims.Lock()
	defer s.claims.Unlock()
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
	for i := len(p.sheets) - 1; i >= 0; i-- {
		sh := p.sheets[i]
		for row := sh.rows - 1; row >= 0; row-- {
			uid := sh.uidOf(p.numbers[i], row)
			on := slotOf(uid) / pageSize
			if sh.pages[on].date(colSaved, row-int(sh.before[on])) < started {
				return from
			}
			from = uid
		}
	}
	return from
}
