// Package store is the record layer: accounts, mailboxes, messages, flags, threads,
// quota, the change log, and the bodies they refer to, in the words of mail.
//
// An account is one shard of an engine. A change is an Update: one account, one
// atomic commit, durable when it returns. A look is a View: one consistent
// Snapshot. An open mailbox is a Picture: immutable, in memory, shared by all
// sessions, rolled forward from the change log. Watch only ticks; whoever is woken
// asks for the new Picture and takes the Diff to the one it had.
//
// The package knows no protocol and no password, delivers nothing and parses
// nothing but what syntax/mime parses for it at delivery. docs/schema.md lists
// every key it writes.
//
// RFC 9051 and 3501 (mailbox, UID, flags), RFC 7162 (modseq), 8474 (object ids), 9208
// (quota), 6154 (roles), 4314 (rights), 5464 (metadata), 5257 (annotations), 5256 (sort
// keys, threads), 4467 (keys of URLs), 9979 (keywords).
package store

import (
	"context"
	"io"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/syntax/mime"
)

// Shards of the engine by use. Each account has accountBase plus its id.
const (
	DirectoryShard engine.Shard = 0 // internal/directory
	QueueShard     engine.Shard = 1 // internal/queue
	registryShard  engine.Shard = 2 // which accounts have data

	accountBase engine.Shard = 1 << 32
)

// Options are what a store is told at Open. Now must be given.
type Options struct {
	Now          func() time.Time
	Format       func() uint64             // newest form of stored records that all nodes can read; nil: that of this program
	Rand         io.Reader                 // where stamps of changes begin; nil: at Now, which is for who works on the store alone
	Spool        func() (SpoolFile, error) // a file for a message of over half a megabyte on its way in; nil: memory holds it
	MaxMessage   int64                     // largest message taken in, in bytes; 0: 50 MB
	PictureBytes int64                     // memory for pictures of mailboxes; 0: 256 MB
	LogLines     int                       // commits of one mailbox that its log remembers; 0: 100,000
	Keep         Keep                      // of deleted mail
	Log          *slog.Logger              // nil: discard
}

const (
	defaultMaxMessage   = 50 << 20
	defaultPictureBytes = 256 << 20
	defaultLogLines     = 100_000
)

// Store keeps accounts on one engine. All methods may be called from many
// goroutines.
type Store struct {
	eng  engine.Engine
	opt  Options
	pack *packer

	shared  engine.Shared // eng, if other processes work on it too; else nil
	lines   atomic.Uint64 // given to pictures
	stamps  stamps
	moments atomic.Uint64

	started    int64        // second of Open
	lowest     atomic.Int64 // see sweepTime
	background sync.WaitGroup
	bodies     holds // those who keep bodies from being swept, or the one who sweeps
	crossings  crossings
	life       context.Context // ends at Close
	end        context.CancelFunc

	mu        sync.Mutex
	accounts  map[mail.AccountID]*Account
	sightings map[mail.AccountID]sighting
	tenants   map[uint64]struct{} // holders of this process who have an account to themselves
	named     uint64              // holders so far
	referrers []func(context.Context, func(mail.BlobRef)) error

	anyone   openSharers
	briefing briefing
	pictures pictureCache
	parsers  sync.Pool // *mime.Parser
	buffers  sync.Pool // *[]byte of shortMessage, for messages on their way in
}

// Open returns a store on the engine, which the caller keeps and closes.
func Open(eng engine.Engine, opt Options) (*Store, error) {
	if opt.MaxMessage == 0 {
		opt.MaxMessage = defaultMaxMessage
	}
	if opt.PictureBytes == 0 {
		opt.PictureBytes = defaultPictureBytes
	}
	if opt.LogLines == 0 {
		opt.LogLines = defaultLogLines
	}
	if opt.Log == nil {
		opt.Log = slog.New(slog.DiscardHandler)
	}
	if err := opt.Keep.check(); err != nil {
		return nil, err
	}
	pack, err := newPacker()
	if err != nil {
		return nil, fault.Wrap(fault.Internal, "no compressor", err)
	}
	s := &Store{eng: eng, shared: asShared(eng), opt: opt, pack: pack, started: opt.Now().Unix(), accounts: map[mail.AccountID]*Account{}}
	if err := s.stamps.begin(opt.Rand, opt.Now()); err != nil {
		return nil, fault.Wrap(fault.Unavailable, "no random bytes", err)
	}
	s.lowest.Store(s.started)
	s.life, s.end = context.WithCancel(context.Background())
	s.pictures.limit = opt.PictureBytes
	s.anyone.ticks, s.anyone.stop = eng.Watch(registryShard)
	s.parsers.New = func() any { return mime.NewParser(mime.DefaultLimits()) }
	s.buffers.New = func() any { b := make([]byte, shortMessage); return &b }
	return s, nil
}

// Close ends and awaits what the store does in the background. Close the engine
// after it.
func (s *Store) Close() {
	s.end()
	s.anyone.stop()
	s.background.Wait()
}

// MaxMessage returns the size limit of one message in bytes.
func (s *Store) MaxMessage() int64 { return s.opt.MaxMessage }

// Now returns the time by the store's clock, which dates what it stores.
func (s *Store) Now() time.Time { return s.opt.Now() }

// Account returns the handle of an account. It does no I/O: whether the account has
// data shows at the first View or Update, which fail with NotFound if not.
func (s *Store) Account(id mail.AccountID) *Account {
	s.mu.Lock()
	defer s.mu.Unlock()
	a := s.accounts[id]
	if a == nil {
		a = &Account{accountState: &accountState{
			store: s, id: id, shard: accountBase + engine.Shard(id), boxes: map[boxKey]*boxState{},
		}}
		s.accounts[id] = a
	}
	return a
}

// DefaultMailboxes are made with every account, subscribed.
var DefaultMailboxes = [...]struct {
	Name string
	Role mail.Role
}{
	{"INBOX", mail.RoleInbox}, {"Archive", mail.RoleArchive}, {"Drafts", mail.RoleDrafts},
	{"Junk", mail.RoleJunk}, {"Sent", mail.RoleSent}, {"Trash", mail.RoleTrash},
}

// CreateAccount makes an account with the default mailboxes. If it has data already
// nothing happens, so that a caller may repeat it after any failure. Faults: Exists if the data
// is that of another account than is meant (Provided).
func (s *Store) CreateAccount(ctx context.Context, id mail.AccountID, quota Quota) error {
	a := s.Account(id)
	was, err := a.born(ctx)
	if err != nil {
		return err
	}
	if err := s.register(ctx, id); err != nil {
		return err
	}
	birth := birthGiven(ctx)
	if birth == nil {
		birth = s.newBirth()
	}
	return a.update(ctx, true, func(tx *Tx) error {
		if tx.acct.nextMessage != 0 {
			return mustBeOwn(ctx, tx.w)
		}
		if err := a.mustBe(ctx, tx.w, was); err != nil {
			return err
		}
		if err := tx.clear(); err != nil {
			return err
		}
		if err := tx.w.Put(birthKey, birth); err != nil {
			return err
		}
		tx.acct = accountRecord{nextMailbox: 1, nextMessage: 1, quota: quota}
		tx.acctDirty = true
		for _, d := range DefaultMailboxes {
			if _, err := tx.CreateMailbox(d.Name, d.Role); err != nil {
				return err
			}
			if err := tx.Subscribe(d.Name, true); err != nil {
				return err
			}
		}
		return nil
	})
}

// clear removes what an Adopt that did not come to its end has left.
func (tx *Tx) clear() error {
	left := false
	err := tx.w.Scan(nil, nil, false, func(_, _ []byte) bool { left = true; return false })
	if err != nil || !left {
		return err
	}
	return tx.w.DeleteRange(nil, nil)
}

// DeleteAccount removes an account's records, but not those of another account than is meant
// (Provided). Its bodies go at the next Sweep that finds nobody else refers to them. Faults: Busy
// if the account was made anew meanwhile.
func (s *Store) DeleteAccount(ctx context.Context, id mail.AccountID) error {
	a := s.Account(id)
	birth, err := a.born(ctx)
	if err != nil {
		return err
	}
	if others, err := a.anothers(ctx); err != nil || others {
		return err
	}
	if err := a.erase(ctx, birth, nil); err != nil {
		return err
	}
	err = s.unregister(ctx, id)
	a.generation.Add(1)
	a.changed(ctx, nil)
	return err
}

// Holders returns the ids of all accounts of which there is any record, in order, whether
// they are listed or not.
func (s *Store) Holders(ctx context.Context) ([]mail.AccountID, error) {
	shards, err := s.eng.Shards(ctx)
	first, _ := slices.BinarySearch(shards, accountBase)
	var ids []mail.AccountID
	for _, id := range shards[first:] {
		ids = append(ids, mail.AccountID(id-accountBase))
	}
	return ids, err
}

// Holds tells whether there is any record of an account but its birth.
func (s *Store) Holds(ctx context.Context, id mail.AccountID) (some bool, err error) {
	err = s.eng.View(ctx, ShardOf(id), func(r engine.Reader) (err error) { some, err = hasRecords(r); return err })
	return some, err
}

// Accounts returns the ids of all accounts that are listed as having data, in order.
func (s *Store) Accounts(ctx context.Context) ([]mail.AccountID, error) {
	var ids []mail.AccountID
	err := s.eng.View(ctx, registryShard, func(r engine.Reader) error {
		from := []byte{famRegistry}
		ids = ids[:0]
		return r.Scan(from, engine.After(from), false, func(k, _ []byte) bool {
			ids = append(ids, mail.AccountID(engine.Num(k, 0)))
			return true
		})
	})
	return ids, err
}

// AddReferrer names somebody else who keeps Parcels (the queue): fn must yield
// every blob they refer to. Sweep asks it.
func (s *Store) AddReferrer(fn func(ctx context.Context, yield func(mail.BlobRef)) error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.referrers = append(s.referrers, fn)
}
