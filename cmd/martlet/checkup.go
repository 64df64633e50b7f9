package main

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"net/smtp"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/martlet-mail/martlet/internal/conf"
	"github.com/martlet-mail/martlet/internal/dnsx"
	"github.com/martlet-mail/martlet/internal/doctor"
	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/queue"
	"github.com/martlet-mail/martlet/internal/store"
)

// This file shows the doctor the house and the machine that it stands on.

func (h *house) doctorOptions(ctx context.Context) (doctor.Options, error) {
	c, k := h.cfg, h.names.Keeper
	site, err := h.names.Site(ctx)
	if err != nil {
		return doctor.Options{}, err
	}
	roots, err := trustedRoots(c)
	if err != nil {
		return doctor.Options{}, err
	}
	// One round asks for the same names many times.
	resolver, err := dnsx.New(resolverOptions(c, h.log))
	if err != nil {
		return doctor.Options{}, misconfigured(err)
	}
	o := doctor.Options{
		Site: site, Listeners: ownListeners(c.Listen), Resolver: resolver, Updater: k.Updater, Rotate: k.Rotate,
		Dial: new(net.Dialer).DialContext, Now: time.Now, Roots: roots, Chain: h.mailChain, ACME: c.TLS.ACME.Enabled,
		Healthy: h.wellEnough, Queue: h.queueFacts, Links: h.linkFacts, Exists: h.takesMail, Loop: h.loop, Machine: h.machine(), Warnings: configWarnings(c),
		Probe: texts(c.Doctor.Probe), Signed: texts(c.Doctor.Signed), Cluster: h.clusterFacts(), Blocklists: texts(c.Doctor.Blocklists), NameLists: texts(c.Doctor.DomainLists),
	}
	if s := c.Queue.Smarthost; s.Host != "" {
		o.Smarthost = net.JoinHostPort(s.Host, strconv.Itoa(s.Port))
	}
	if len(c.Doctor.NTP) > 0 {
		o.NTP = string(c.Doctor.NTP[0])
	}
	if h.acme != nil {
		o.Missing = h.acme.missing()
	}
	return o, nil
}

func texts(names []conf.Hostname) []string {
	var all []string
	for _, n := range names {
		all = append(all, string(n))
	}
	return all
}

// trustedRoots are those of the system and, of an authority of one's own, that one's.
func trustedRoots(c *conf.Config) (*x509.CertPool, error) {
	if c.TLS.ACME.CA == "" {
		return nil, nil
	}
	_, own, err := authorities(c.TLS.ACME.CA)
	if err != nil {
		return nil, misconfigured(err)
	}
	pool, err := x509.SystemCertPool()
	if err != nil {
		pool = x509.NewCertPool()
	}
	for _, cert := range own {
		pool.AddCert(cert)
	}
	return pool, nil
}

// ownListeners are where listeners are reached from this machine.
func ownListeners(blocks []conf.Listen) (all []doctor.Listener) {
	for _, b := range blocks {
		host, port, err := net.SplitHostPort(string(b.Address))
		if err != nil || port == "0" || b.Legacy {
			continue
		}
		if a, err := netip.ParseAddr(host); host == "" || err == nil && a.IsUnspecified() {
			host = "127.0.0.1"
			if err == nil && a.Is6() {
				host = "::1"
			}
		}
		all = append(all, doctor.Listener{Protocol: string(b.Protocol), Address: net.JoinHostPort(host, port), Implicit: b.TLS == conf.Implicit})
	}
	return all
}

func (h *house) machine() doctor.Machine {
	return doctor.Machine{
		Root: os.Geteuid() == 0 && h.cfg.User == "", Descriptors: descriptors(), Connections: h.cfg.Limits.Connections,
		Zone: func() error {
			name := os.Getenv("TZ")
			if name == "" {
				return nil
			}
			_, err := time.LoadLocation(strings.TrimPrefix(name, ":"))
			return err
		},
		Disk: func() (free, size uint64, err error) { return diskSpace(string(h.cfg.Data)) },
		Data: func() (fs.FileMode, error) {
			info, err := os.Stat(string(h.cfg.Data))
			if err != nil {
				return 0, err
			}
			return info.Mode().Perm(), nil
		},
		Socket: func(ctx context.Context) error {
			c, err := dialServer(ctx, h.cfg)
			if err != nil {
				return err
			}
			if c == nil {
				return errors.New("the server does not run")
			}
			return c.close()
		},
		Addresses: func() (all []netip.Addr, err error) {
			have, err := net.InterfaceAddrs()
			for _, a := range have {
				if p, err := netip.ParsePrefix(a.String()); err == nil {
					all = append(all, p.Addr().Unmap())
				}
			}
			return all, err
		},
		Synced: clockSynced,
	}
}

// wellEnough is a quick look at the store: whether it takes mail, and whether what knows of
// domains and accounts is whole.
func (h *house) wellEnough(ctx context.Context) error {
	if err := h.engine.Healthy(); err != nil {
		return err
	}
	first, problems := "", 0
	err := h.directory.Verify(ctx, func(what string) {
		if problems++; first == "" {
			first = what
		}
	}, func(mail.AccountID) {})
	if err == nil && problems > 0 {
		err = fmt.Errorf("%s, the first: %s", counted(int64(problems), "problem"), first)
	}
	return err
}

// looked is how many messages of the queue are looked at.
const looked = 5000

func (h *house) queueFacts(ctx context.Context) (doctor.Queue, error) {
	n, err := h.queue.Count(ctx)
	if err != nil {
		return doctor.Queue{}, err
	}
	q, seen, first := doctor.Queue{Messages: n.Messages, Held: n.Held}, 0, time.Time{}
	err = h.queue.List(ctx, queue.Filter{}, func(i queue.Info) bool {
		if !i.Held && q.Oldest == 0 && i.Attempts > 0 {
			q.Oldest = time.Since(i.Created)
		}
		if i.Attempts > 0 {
			q.Failing++
			if first.IsZero() || i.Created.Before(first) {
				q.Reason, first = i.Reason, i.Created
			}
		}
		seen++
		return seen < looked
	})
	return q, err
}

// takesMail tells whether an address leads anywhere.
func (h *house) takesMail(ctx context.Context, addr mail.Address) (bool, error) {
	to, err := h.directory.Resolve(ctx, addr)
	if fault.Is(err, fault.NotFound) {
		return false, nil
	}
	local, lerr := h.directory.IsLocal(ctx, addr.Domain)
	return err == nil && local && len(to.Accounts)+len(to.Remote) > 0, errors.Join(err, lerr)
}

// loopWait is how long a message may be on its way from port 25 to its mailbox.
const loopWait = 10 * time.Second

// loop sends a message to the postmaster of a domain through port 25, waits until it is in
// the mailbox, and takes it away again.
func (h *house) loop(ctx context.Context, domain string) error {
	postmaster := mail.Address{Local: "postmaster", Domain: domain}
	to, err := h.directory.Resolve(ctx, postmaster)
	if err != nil {
		return err
	}
	if len(to.Accounts) == 0 {
		return fmt.Errorf("%s leads to no account here", postmaster)
	}
	i := slices.IndexFunc(h.cfg.Listen, func(l conf.Listen) bool { return l.Protocol == "smtp" })
	if i < 0 {
		return errors.New("there is no [[listen]] block for smtp")
	}
	listeners := ownListeners(h.cfg.Listen[i : i+1])
	if len(listeners) == 0 {
		return errors.New("it is not known where port 25 is")
	}
	id := "<doctor-" + connectionID() + connectionID() + "@" + string(h.cfg.Hostname) + ">"
	if err := h.sendLoop(ctx, listeners[0].Address, postmaster, id); err != nil {
		return err
	}
	for deadline := time.Now().Add(loopWait); ; {
		for _, t := range to.Accounts {
			if found, err := h.takeAway(ctx, t.Account, id); err != nil || found {
				return err
			}
		}
		if time.Now().After(deadline) {
			return errors.New("it was taken in, and is in no mailbox after " + loopWait.String())
		}
		select {
		case <-ctx.Done():
			return errors.New("it was taken in, and is in no mailbox yet")
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func (h *house) sendLoop(ctx context.Context, address string, to mail.Address, id string) error {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", address)
	if err != nil {
		return err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	c, err := smtp.NewClient(conn, "localhost") // in the clear only to this machine
	if err != nil {
		return err
	}
	steps := []func() error{
		func() error { return c.Hello(string(h.cfg.Hostname)) },
		func() error { return c.Mail("") },
		func() error { return c.Rcpt(to.String()) },
		func() error {
			w, err := c.Data()
			if err != nil {
				return err
			}
			if _, err = fmt.Fprintf(w, "From: %s\r\nTo: %s\r\nSubject: Message of martlet doctor\r\nDate: %s\r\nMessage-ID: %s\r\n\r\nThis message is sent by martlet doctor to see whether mail comes in. It is taken away again.\r\n",
				to, to, time.Now().Format(time.RFC1123Z), id); err != nil {
				return err
			}
			return w.Close()
		},
		c.Quit,
	}
	for _, step := range steps {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// takeAway removes a message from the mailboxes of an account, looking at the newest ones.
func (h *house) takeAway(ctx context.Context, account mail.AccountID, id string) (found bool, err error) {
	err = h.store.Account(account).Update(ctx, func(tx *store.Tx) error {
		found = false
		boxes, err := tx.Mailboxes()
		if err != nil {
			return err
		}
		for _, b := range boxes {
			for uid := b.UIDNext - 1; uid >= 1 && uid+10 > b.UIDNext; uid-- {
				m, err := tx.Message(b.ID, uid)
				if err != nil {
					continue
				}
				head, err := tx.Head(nil, m.ID)
				if err != nil || !strings.Contains(string(head), id) {
					continue
				}
				found = true
				if _, err := tx.Expunge(b.ID, mail.SetOf(uid), false); err != nil {
					return err
				}
			}
		}
		return nil
	})
	return found, err
}

// configWarnings are keys that are allowed and seldom meant.
func configWarnings(c *conf.Config) (all []doctor.Line) {
	say := func(bad bool, key, why, fix string) {
		l := doctor.Line{Check: "config " + key, Status: doctor.OK, Why: "nothing to be said of " + key}
		if bad {
			l.Status, l.Why, l.Fix = doctor.Warn, why, fix
		}
		all = append(all, l)
	}
	say(c.Queue.AllowPrivate, "queue.allow_private", "mail may go to private addresses that others name in their DNS", "take allow_private out of [queue], unless this is a network of its own")
	say(slices.ContainsFunc(c.Trusted, func(p netip.Prefix) bool { return p.Bits() < 8 || isPublic(p.Addr()) && p.Bits() < p.Addr().BitLen()-8 }),
		"trusted", "trusted has networks that are not yours alone; passwords may go in the clear there", "narrow trusted in the configuration")
	say(c.Queue.Smarthost.Password != "", "queue.smarthost.password", "the smarthost's password stands in the configuration", "put it into a file of its own, and name it with password_file")
	say(c.Queue.Port != 25 && c.Queue.Smarthost.Host == "", "queue.port", fmt.Sprintf("mail goes to port %d of other hosts, which take it on port 25", c.Queue.Port), "take port out of [queue]")
	say(shared(c) && openDatabase(c.Store.URL), "store.url", "mail and passwords' hashes go to the database in the clear", "add sslmode=verify-full, and sslrootcert=FILE with the database's authority, to url in [store]")
	say(c.Blobs.Engine == "s3" && strings.HasPrefix(c.Blobs.Endpoint, "http:") && !localHost(c.Blobs.Endpoint), "blobs.endpoint", "mail goes to the object store in the clear", "use its https address")
	say(c.Log.Level == "debug", "log.level", "everything is logged, also what is nobody's business", "set level = \"info\" in [log]")
	say(slices.ContainsFunc(c.Listen, func(l conf.Listen) bool {
		return l.TLS == conf.NoTLS && slices.Contains([]conf.Protocol{"imap", "pop3", "submission"}, l.Protocol) && !loopback(l.Address)
	}),
		"listen.tls", "a listener for people's programs has no TLS; only trusted networks can log in there", "take tls = \"none\" out of its [[listen]] block")
	return all
}

func loopback(a conf.Address) bool {
	host, _, err := net.SplitHostPort(string(a))
	ip, perr := netip.ParseAddr(host)
	return err == nil && (host == "localhost" || perr == nil && ip.IsLoopback())
}
