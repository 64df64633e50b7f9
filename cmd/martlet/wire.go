package main

import (
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/martlet-mail/martlet/internal/backup"
	"github.com/martlet-mail/martlet/internal/conf"
	"github.com/martlet-mail/martlet/internal/directory"
	"github.com/martlet-mail/martlet/internal/disk"
	"github.com/martlet-mail/martlet/internal/dnsx"
	"github.com/martlet-mail/martlet/internal/doubt"
	"github.com/martlet-mail/martlet/internal/engine/s3"
	"github.com/martlet-mail/martlet/internal/guard"
	"github.com/martlet-mail/martlet/internal/move/former"
	"github.com/martlet-mail/martlet/internal/move/link"
	"github.com/martlet-mail/martlet/internal/node"
	"github.com/martlet-mail/martlet/internal/queue"
	"github.com/martlet-mail/martlet/internal/receive"
	reports "github.com/martlet-mail/martlet/internal/report"
	"github.com/martlet-mail/martlet/internal/send"
	"github.com/martlet-mail/martlet/internal/serve/admin"
	"github.com/martlet-mail/martlet/internal/serve/imapd"
	"github.com/martlet-mail/martlet/internal/serve/netsrv"
	"github.com/martlet-mail/martlet/internal/serve/pop3d"
	"github.com/martlet-mail/martlet/internal/serve/smtpd"
	"github.com/martlet-mail/martlet/internal/store"
	"github.com/martlet-mail/martlet/internal/sts"
	"github.com/martlet-mail/martlet/internal/trace"
)

// house is one data folder and all that works on it, from the ground up.
type house struct {
	cfg *conf.Config
	log *slog.Logger

	engine    keeper               // keeps bytes
	store     *store.Store         // keeps mail
	directory *directory.Directory // knows who exists
	formers   *former.Servers      // know passwords, and have mail, of accounts that are to come
	resolver  *dnsx.Client         // knows names
	policies  *sts.Cache           // knows what other domains ask of TLS; nil: nobody asks it
	names     admin.Names          // knows what they should lead to
	courier   *send.Courier        // takes mail to other hosts
	queue     *queue.Queue         // keeps what must wait for them
	allowance *queue.Allowance     // counts what accounts send
	doubts    *doubt.List          // knows which deliveries nobody knows the outcome of
	receiver  *receive.Receiver    // the road in: mailboxes or queue
	road      *receive.Local       // that of mail made here
	guard     *guard.Guard         // knows hosts by what they have sent
	reports   *reports.Book        // what others are told, and tell, of mail
	links     *link.Links          // keep accounts in step with mailboxes elsewhere
	trace     *trace.Book          // tells the story of each message; nil: none is kept

	work func(ctx context.Context, account string) (context.Context, func()) // takes turns for accounts; nil: nobody else works

	run     string      // a word of one that may keep others from a database; "": it may not
	node    *node.Node  // knows who shares the store
	goodbye func()      // tells them that this one leaves
	sending atomic.Bool // it is the one that sends reports

	bucket   *s3.Bucket  // of large bodies; nil: there is none
	cache    *s3.Cache   // in front of it; nil: there is none
	serving  bool        // a server's, not a command's
	spool    *disk.Spool // for messages on their way in
	giveBack []func()    // what was taken of the machine

	trying  string            // domain that settings are told of whatever the Host, on a try-out server
	vitals  *vitals           // how it is; once it serves
	certs   certificateSource // nil: no TLS; once it serves
	acme    *authority        // nil: certificates come from files
	renewal renewal           // zero: as package certmagic has it
}

// files are those of this machine.
var files = disk.Files{FS: vfs.Default}

// backupDisk is where backups lie: on a disk of this machine.
var backupDisk = backup.Disk{FS: vfs.Default, Lock: lockShared}

func engineDir(cfg *conf.Config) string { return filepath.Join(string(cfg.Data), "store") }

// engineLock is the file whose lock says that a process lives in the data folder: any with a
// store of its own, a server with one that others share.
func engineLock(cfg *conf.Config) string {
	if shared(cfg) {
		return filepath.Join(string(cfg.Data), "node.lock")
	}
	return filepath.Join(engineDir(cfg), "LOCK")
}

// openHouse builds the house of a configuration as a command works on it. It is Busy if
// another process lives there, unless the store is one that many share. From here on the
// process is that of the configuration's user.
func openHouse(ctx context.Context, cfg *conf.Config, log *slog.Logger) (*house, error) {
	return openAs(ctx, &house{cfg: cfg, log: log})
}

func openAs(ctx context.Context, h *house) (*house, error) {
	cfg := h.cfg
	if err := giveUpRoot(cfg); err != nil {
		return nil, err
	}
	if err := enoughFiles(); err != nil {
		return nil, err
	}
	if err := h.open(ctx); err != nil {
		return nil, errors.Join(err, h.close())
	}
	return h, nil
}

// open builds the house floor by floor.
func (h *house) open(ctx context.Context) error {
	for _, floor := range [...]func(context.Context) error{h.openGround, h.openStore, h.openOutside, h.openRoads} {
		if err := floor(ctx); err != nil {
			return err
		}
	}
	return nil
}

// openGround opens what keeps bytes, and joins those who share it.
func (h *house) openGround(ctx context.Context) (err error) {
	if err := h.enter(); err != nil {
		return err
	}
	if h.engine, err = h.openEngine(ctx); err != nil {
		return err
	}
	if err = h.notBeside(ctx); err != nil {
		return err
	}
	if err = h.join(ctx); err != nil {
		return err
	}
	// After it is known as a node: who has set a mark, and then looks for nodes, sees it or is seen.
	return mayServe(ctx, h.engine, h.cfg.Store.Engine)
}

// openStore opens what keeps mail, and what knows whose it is.
func (h *house) openStore(ctx context.Context) (err error) {
	keep := storeOptions(h.cfg, h.spool, h.log)
	keep.Format = h.node.Format
	if h.store, err = store.Open(h.engine, keep); err != nil {
		return err
	}
	who, err := directoryOptions(h.cfg, h.log)
	if err != nil {
		return err
	}
	if h.formers, err = h.newFormer(); err != nil {
		return err
	}
	who.Former, who.Alone, who.Format = h.formers, h.alone, h.node.Format
	if h.directory, err = directory.Open(ctx, h.engine, h.store, who); err != nil {
		return err
	}
	h.links, err = h.newLinks()
	return err
}

// openOutside makes what asks other hosts, and speaks to them.
func (h *house) openOutside(context.Context) (err error) {
	if h.resolver, err = newResolver(h.cfg, h.log); err != nil {
		return err
	}
	if h.names, err = h.naming(); err != nil {
		return err
	}
	if h.policies, err = newPolicies(h.cfg, h.resolver, h.engine, h.log); err != nil {
		return err
	}
	if h.reports, err = h.newReports(); err != nil {
		return err
	}
	if h.courier, err = newCourier(h.cfg, h.resolver, h.policies, h.connected); err != nil {
		return err
	}
	h.guard = newGuard(h.cfg, h.engine, h.resolver, h.log)
	return nil
}

// openRoads makes the roads of mail, which lead in a circle: out through the queue, and from
// there back in.
func (h *house) openRoads(context.Context) (err error) {
	if h.trace, err = openTrace(h.cfg, h.log); err != nil {
		return err
	}
	road := new(receive.Local) // the way back from the queue
	waits := queueOptions(h.cfg, remote{h.courier}, road, h.log)
	waits.Trace, waits.Part, waits.Parts, waits.Format = h.trace, h.node.Number(), h.queueParts(), h.node.Format
	h.queue = queue.New(h.engine, h.store, waits)
	h.allowance = newAllowance(h)
	h.doubts = doubt.New(doubt.Options{Engine: h.engine, Now: time.Now, Log: h.log})
	if h.receiver, err = h.newReceiver(); err != nil {
		return err
	}
	road.Receiver = h.receiver
	h.road = road
	return nil
}

// spoken are the protocols there are, by the names that [[listen]] knows them.
func spoken() []conf.Protocol {
	return []conf.Protocol{"smtp", "lmtp", "submission", "submissions", "imap", "imaps", "pop3", "pop3s", "http", "https"}
}

// services are those of them that run in sessions, by the names of listeners.
func (h *house) services() map[string]netsrv.Service {
	relay := smtpd.Service(h.smtpOptions(smtpd.Relay))
	lmtp := smtpd.Service(h.smtpOptions(smtpd.LMTP))
	submission := smtpd.Service(h.submissionOptions())
	imap := h.imapService(false)
	past := h.imapService(true)
	pop3 := netsrv.Service{Handle: pop3d.New(h.pop3Options()).Handle, Refuse: pop3d.Refuse}
	for _, people := range []*netsrv.Service{&submission, &imap, &past, &pop3} {
		people.People, people.ClientCertificates = true, true
	}
	return map[string]netsrv.Service{
		"smtp": relay, "lmtp": lmtp, "submission": submission, "submissions": submission,
		"imap": imap, "imaps": imap, "imap-legacy": past, "imaps-legacy": past,
		"pop3": pop3, "pop3s": pop3,
	}
}

func (h *house) imapService(legacy bool) netsrv.Service {
	opt := h.imapOptions()
	opt.Legacy = legacy
	return netsrv.Service{Handle: imapd.New(opt).Handle, Refuse: "* BYE too many connections; try again later"}
}

// close takes the house down from the roof.
func (h *house) close() error {
	defer h.leave()
	h.trace.Close()
	if h.courier != nil {
		h.courier.Close()
	}
	if h.policies != nil {
		h.policies.Close()
	}
	if h.formers != nil {
		h.formers.Close()
	}
	if h.directory != nil {
		h.directory.Close()
	}
	if h.store != nil {
		h.store.Close()
	}
	if h.engine == nil {
		return nil
	}
	h.signOff()
	return h.engine.Close()
}

// signOff says good-bye to the other nodes, unless that was done. Whoever joined and was then
// refused would be waited for by those who need the store for themselves.
func (h *house) signOff() {
	if h.node == nil {
		return
	}
	c, end := briefly()
	defer end()
	if err := h.node.Leave(c); err != nil {
		h.log.Warn("the other nodes could not be told that this one leaves; they find out", "err", err)
	}
}

// backup is the house as backups see it.
func (h *house) backup() backup.House {
	return backup.House{
		Engine: h.engine, Store: h.store, Directory: h.directory, Disk: backupDisk,
		Version: thisBuild().Version, Now: time.Now, Rand: rand.Reader,
	}
}

// admin is the way in for commands.
func (h *house) admin() http.Handler {
	return admin.New(admin.Options{
		Store: h.store, Directory: h.directory, Queue: h.queue, Allowance: h.allowance, Trace: h.trace, Reports: h.reports, Links: h.links, Groups: groupsOf(h.engine), Node: h.node, Files: h.files, Backup: h.backup(), Names: h.names, Work: h.work,
		Version: thisBuild().Version, Log: h.log, Now: time.Now, Rand: rand.Reader, PID: os.Getpid(),
	})
}

// files reads every file of the engine, for verify.
func (h *house) files(ctx context.Context, report func(file, what string)) error {
	return h.engine.CheckFiles(ctx, report)
}
