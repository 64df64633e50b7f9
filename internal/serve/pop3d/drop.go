package pop3d

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/martlet-mail/martlet/internal/directory"
	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/store"
)

// drop is the INBOX as it was at login: numbers and sizes stand still whatever comes
// or goes meanwhile (RFC 1939, 4).
type drop struct {
	account *store.Account
	picture *store.Picture
	marked  []uint64 // bit i-1: message i is marked as deleted
	count   int      // messages that are not marked
	bytes   int64    // and their size
}

// enter locks the INBOX and begins the transaction state.
func (s *session) enter(ctx context.Context, who directory.Account, how string) error {
	if !s.srv.lock(who.ID) {
		return fault.New(fault.Busy, "another POP3 session has the mailbox open")
	}
	s.account, s.locked = who, true                       // noted at once: a panic below must not leave the lock
	err := s.occupy(ctx, s.srv.opt.Store.Account(who.ID)) // first: what another session removes is not to be shown
	var d *drop
	if err == nil {
		d, err = s.open(ctx, who)
	}
	if err != nil {
		s.unlock()
		return err
	}
	s.drop = d
	s.conn.LogWith("account", who.Address.String())
	s.conn.Log().Info("logged in", "mechanism", how, "messages", d.count)
	s.ok("%d messages (%d octets)", d.count, d.bytes)
	return nil
}

// open counts the connection under the account and reads its INBOX.
func (s *session) open(ctx context.Context, who directory.Account) (*drop, error) {
	if err := s.conn.SignIn(who.Address.String()); err != nil {
		return nil, err
	}
	return openDrop(ctx, s.srv.opt.Store.Account(who.ID))
}

// leaveFor is how long giving the INBOX up may wait for a store that cannot be reached.
const leaveFor = 5 * time.Second

// occupy keeps sessions on other nodes out.
func (s *session) occupy(ctx context.Context, a *store.Account) (err error) {
	s.renew, s.leave, err = a.Occupy(ctx, s.srv.opt.Idle+time.Minute)
	if fault.Is(err, fault.Busy) {
		return fault.New(fault.Busy, "another POP3 session has the mailbox open")
	}
	s.renewed = s.srv.opt.Store.Now()
	return err
}

// still says now and then that the session is there: before anything that takes its time, and
// before the messages are removed.
func (s *session) still(ctx context.Context, always bool) error {
	if s.renew == nil {
		return nil
	}
	if now := s.srv.opt.Store.Now(); always || now.Sub(s.renewed).Abs() >= time.Minute {
		if err := s.renew(ctx); err != nil {
			return err
		}
		s.renewed = now
	}
	return nil
}

// unlock releases what enter took. It may be called twice.
func (s *session) unlock() {
	if leave := s.leave; leave != nil {
		s.renew, s.leave = nil, nil
		ctx := s.srv.opt.Store.Patient(context.WithoutCancel(s.ctx), leaveFor)
		if err := leave(ctx); err != nil {
			s.conn.Log().Warn("the mailbox is not given up yet; other nodes may have it once the store can be reached", "err", err)
		}
	}
	if s.locked {
		s.srv.release(s.account.ID)
		s.drop, s.locked = nil, false
	}
}

func openDrop(ctx context.Context, a *store.Account) (*drop, error) {
	var inbox store.Mailbox
	err := a.View(ctx, func(s *store.Snapshot) (err error) {
		inbox, err = s.Mailbox("INBOX")
		return err
	})
	if err != nil {
		return nil, err
	}
	picture, err := a.Picture(ctx, inbox.ID)
	if err != nil {
		return nil, err
	}
	d := &drop{account: a.Upon(picture), picture: picture}
	d.reset()
	return d, nil
}

// reset takes all marks away.
func (d *drop) reset() {
	d.marked = make([]uint64, (d.picture.Len()+63)/64)
	d.count, d.bytes = d.picture.Len(), d.picture.Mailbox().Bytes
}

func (d *drop) isMarked(seq int) bool {
	return d.marked[(seq-1)/64]&(1<<((seq-1)%64)) != 0
}

func (d *drop) mark(seq int, m store.Message) {
	d.marked[(seq-1)/64] |= 1 << ((seq - 1) % 64)
	d.count--
	d.bytes -= m.Size
}

// find returns the message of a number as the client wrote it. One that is marked
// cannot be named any more (RFC 1939, 5).
func (d *drop) find(number string) (int, store.Message, error) {
	n, err := strconv.ParseUint(number, 10, 31)
	if err != nil || n == 0 {
		return 0, store.Message{}, fault.New(fault.Invalid, "a message number counts from 1")
	}
	seq := int(n)
	if seq > d.picture.Len() {
		return 0, store.Message{}, fault.Newf(fault.NotFound, "no such message, there are %d", d.picture.Len())
	}
	if d.isMarked(seq) {
		return 0, store.Message{}, fault.Newf(fault.NotFound, "message %d is deleted", seq)
	}
	m, ok := d.picture.Message(d.picture.UID(seq))
	if !ok {
		return 0, store.Message{}, fault.New(fault.Internal, "")
	}
	return seq, m, nil
}

// all yields the messages that are not marked, with their numbers.
func (d *drop) all(yield func(int, store.Message) bool) {
	for seq, m := range d.picture.Messages(store.All()) {
		if !d.isMarked(seq) && !yield(seq, m) {
			return
		}
	}
}

// markedUIDs is what QUIT removes.
func (d *drop) markedUIDs() mail.UIDSet {
	var set mail.UIDSet
	for seq, m := range d.picture.Messages(store.All()) {
		if d.isMarked(seq) {
			set.Add(m.UID)
		}
	}
	return set
}

// uniqueID names a message for ever: a UID is given once under a UIDVALIDITY
// (RFC 1939, 7 UIDL; RFC 9051, 2.3.1.1).
func (d *drop) uniqueID(m store.Message) string {
	return fmt.Sprintf("%08x%08x", d.picture.Mailbox().UIDValidity, uint32(m.UID))
}
