package main

import (
	"crypto/rand"
	"log/slog"
	chance "math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/miekg/dns"

	"github.com/martlet-mail/martlet/internal/conf"
	"github.com/martlet-mail/martlet/internal/directory"
	"github.com/martlet-mail/martlet/internal/disk"
	"github.com/martlet-mail/martlet/internal/dnsx"
	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/queue"
	"github.com/martlet-mail/martlet/internal/receive"
	"github.com/martlet-mail/martlet/internal/serve/imapd"
	"github.com/martlet-mail/martlet/internal/serve/pop3d"
	"github.com/martlet-mail/martlet/internal/serve/smtpd"
	"github.com/martlet-mail/martlet/internal/store"
)

// This file translates the configuration into the options of each package, and fits
// together what packages of the same floor may not know of each other.

func storeOptions(cfg *conf.Config, spool *disk.Spool, log *slog.Logger) store.Options {
	return store.Options{
		Now: time.Now, Rand: rand.Reader, MaxMessage: int64(cfg.Limits.MessageSize), Keep: keepOptions(&cfg.Deleted), Log: log,
		Spool: func() (store.SpoolFile, error) { return spool.File() },
	}
}

// keepOptions say what becomes of deleted mail.
func keepOptions(d *conf.Deleted) store.Keep {
	return store.Keep{For: time.Duration(d.Keep), Name: d.Mailbox, Messages: int64(d.Messages), Bytes: int64(d.Size)}
}

func directoryOptions(cfg *conf.Config, log *slog.Logger) (directory.Options, error) {
	tokens, err := issuer(cfg.OAuth, log)
	postmaster, _ := mail.ParseAddress(string(cfg.Addresses.Postmaster)) // conf has checked it
	known := time.Duration(cfg.Limits.PasswordKnown)
	if known == 0 {
		known = -1 // never
	}
	return directory.Options{
		Now: time.Now, Rand: rand.Reader,
		DetailSeparator: string(cfg.Addresses.DetailSeparator), Postmaster: postmaster,
		KeepKeys:           keysStay(cfg),
		PasswordMemory:     int64(cfg.Limits.PasswordMemory),
		FailuresPerAccount: cfg.Limits.LoginFailuresPerAccount,
		FailuresPerAddress: cfg.Limits.LoginFailuresPerAddress,
		Forgive:            time.Duration(cfg.Limits.LoginForgiveness), RememberFor: known, Log: log,
		Tokens: tokens, CertificateNames: certificateNames(cfg.TLS.Clients),
		KeepForeign: cfg.Migrate.KeepHashes,
		Scram:       map[string]directory.Scram{"auto": directory.ScramAuto, "always": directory.ScramAlways, "never": directory.ScramNever}[cfg.Migrate.Scram],
	}, err
}

// keysStay is how long a key stays published that signs no more: a message is signed when it
// comes in, may wait for its time of release, and then in the queue; and other hosts have
// queues, too.
func keysStay(cfg *conf.Config) time.Duration {
	age := cfg.Queue.MaxAge
	for _, s := range cfg.Queue.Schedule {
		age = max(age, s.MaxAge)
	}
	for _, b := range cfg.BackupMX {
		age = max(age, b.MaxAge)
	}
	return max(14*24*time.Hour, time.Duration(cfg.Submission.FutureRelease+age)+7*24*time.Hour)
}

func (h *house) smtpOptions(kind smtpd.Kind) smtpd.Options {
	return smtpd.Options{
		// Patience: less than a second may be too short for a database that answers.
		Now:  time.Now,
		Kind: kind, Hostname: string(h.cfg.Hostname), Store: h.store, Directory: h.directory, Receiver: h.receiver,
		MaxRecipients: h.cfg.SMTP.RecipientsLimit, MaxErrors: h.cfg.Limits.Errors, MaxFailures: h.cfg.Limits.LoginFailures,
		Normalise: h.cfg.SMTP.BareLineEndings == "normalise", CheckFrom: h.cfg.SMTP.CheckFrom, CheckTrusted: h.cfg.Checks.Trusted, Trace: h.trace,
		Guard: h.guard, Tarpit: time.Duration(h.cfg.Guard.Tarpit), Patience: max(time.Duration(h.cfg.Store.DeliveryPatience), time.Second),
		Queueing: queueing(&h.cfg.Submission), Backup: h.backups(),
	}
}

// submissionOptions are those of submission. What users send may lie in their mailboxes:
// the IMAP server knows what URLs mean (BURL), where there is one.
func (h *house) submissionOptions() smtpd.Options {
	o := h.smtpOptions(smtpd.Submission)
	o.Allowance, o.Suppressed = h.allowance, h.suppressed()
	if slices.ContainsFunc(h.cfg.Listen, func(l conf.Listen) bool { return l.Protocol == "imap" || l.Protocol == "imaps" }) {
		o.URLs = imapd.New(h.imapOptions())
	}
	return o
}

func (h *house) imapOptions() imapd.Options {
	return imapd.Options{
		Now: time.Now, Random: rand.Reader,
		Store: h.store, Directory: h.directory, Version: thisBuild().Version,
		Idle: time.Duration(h.cfg.IMAP.IdleTimeout), MaxBad: h.cfg.Limits.Errors, MaxFailures: h.cfg.Limits.LoginFailures,
		CommandTime:  time.Duration(h.cfg.Limits.CommandTime),
		MessageLimit: h.cfg.IMAP.MessageLimit, SaveLimit: h.cfg.IMAP.SaveLimit,
		Submitter: h.submitter(), Administrator: h.administrator(),
		Marked: func(id mail.AccountID, mark string) bool { return h.links != nil && h.links.Marks(id, mark) },
	}
}

func (h *house) pop3Options() pop3d.Options {
	return pop3d.Options{
		Store: h.store, Directory: h.directory, Idle: time.Duration(h.cfg.POP3.IdleTimeout),
		MaxErrors: h.cfg.Limits.Errors, MaxFailures: h.cfg.Limits.LoginFailures,
	}
}

func queueOptions(cfg *conf.Config, to queue.Courier, road *receive.Local, log *slog.Logger) queue.Options {
	q := cfg.Queue
	o := queue.Options{
		Hostname: string(cfg.Hostname), Remote: to, Local: road, Report: road.Report,
		Lifetime: time.Duration(q.MaxAge), DelayAfter: time.Duration(q.DelayNotice),
		Workers: q.Concurrency, PerDomain: q.ConcurrencyPerDomain, Grace: stopGrace, Log: log,
		Now: time.Now, Rand: chance.Float64, Random: rand.Reader,
	}
	if o.DelayAfter == 0 {
		o.DelayAfter = -1 // never
	}
	o.Rules = schedules(q.Schedule, cfg.BackupMX)
	for _, gap := range q.Retry {
		o.Gaps = append(o.Gaps, time.Duration(gap))
	}
	return o
}

// newResolver is whom the whole house asks about names: what one part has learnt, the
// others know.
func newResolver(cfg *conf.Config, log *slog.Logger) (*dnsx.Client, error) {
	c, err := dnsx.New(dnsx.Options{Servers: nameServers(cfg, log), TrustAD: cfg.Queue.ResolverValidates, Now: time.Now, ID: dns.Id, Dial: new(net.Dialer).DialContext})
	if err != nil {
		return nil, misconfigured(err)
	}
	return c, nil
}

// nameServers are the DNS servers of the configuration, or of the machine.
func nameServers(cfg *conf.Config, log *slog.Logger) []string {
	if cfg.Queue.Resolver != "" {
		return []string{string(cfg.Queue.Resolver)}
	}
	text, err := files.ReadFile("/etc/resolv.conf")
	if err == nil {
		var servers []string
		if servers, err = dnsx.SystemServers(text); err == nil {
			return servers
		}
	}
	// What every stub resolver does without a resolv.conf. Mail here does not need one.
	log.Warn("the system names no DNS server; one on this machine is asked", "err", err)
	return []string{"127.0.0.1:53"}
}

// isSelf tells whether an address is one of our own listeners, where mail for other
// hosts would only come back.
//
// A listener on all addresses is one on each address of this machine.
func isSelf(blocks []conf.Listen) func(netip.AddrPort) bool {
	own, everywhere := map[netip.AddrPort]bool{}, map[uint16]bool{}
	for _, b := range blocks {
		a, err := netip.ParseAddrPort(string(b.Address))
		switch {
		case err != nil:
		case a.Addr().IsUnspecified():
			everywhere[a.Port()] = true
		default:
			own[netip.AddrPortFrom(a.Addr().Unmap(), a.Port())] = true
		}
	}
	return func(a netip.AddrPort) bool {
		a = netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
		return own[a] || everywhere[a.Port()] && onThisMachine(a.Addr())
	}
}

// onThisMachine tells whether an address is one of this machine's interfaces now.
func onThisMachine(a netip.Addr) bool {
	return a.IsLoopback() || slices.Contains(addressesHere(), a)
}

// addressesHere are those of this machine, none if the system does not say.
func addressesHere() (own []netip.Addr) {
	all, _ := net.InterfaceAddrs()
	for _, have := range all {
		if p, err := netip.ParsePrefix(have.String()); err == nil {
			own = append(own, p.Addr().Unmap())
		}
	}
	return own
}
