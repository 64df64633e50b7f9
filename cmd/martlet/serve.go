package main

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/base32"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/martlet-mail/martlet/internal/conf"
	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/serve/netsrv"
)

// A stop takes at most stopWithin. Sessions get stopGrace of it to finish the command
// they are at; the rest is for closing the store. Nothing that was acknowledged depends
// on a clean stop.
const (
	stopGrace  = 3 * time.Second
	stopWithin = 4500 * time.Millisecond
)

func newServeCommand() *cobra.Command {
	return &cobra.Command{
		Use: "serve", Short: "Run the mail server of a configuration",
		Long: `Runs the mail server until SIGTERM, SIGINT or SIGHUP, which stop it within 5 seconds; a
second signal ends it at once. Clients in the middle of a command or of a message are
answered before. A node of several first serves on for [cluster] leave, while its /readyz
says that it goes. Logs go to standard error. With --json it prints one line on standard
output when every listener is ready.

Sockets that systemd has opened (a .socket unit) are taken for the [[listen]] blocks with
the same addresses: while the server is restarted clients wait in them, and none is
refused. systemd is told when the server is ready and when it stops (Type=notify), and
every half of WatchdogSec= that it lives. New certificates need no restart.`,
		Example: `  martlet serve --config /etc/martlet/martlet.toml
  martlet config check martlet.toml && martlet serve
  GOMEMLIMIT=2GiB martlet serve --config martlet.toml`,
		Args: arguments(0, 0), RunE: serve,
	}
}

func serve(cmd *cobra.Command, _ []string) error {
	cfg, path, err := loadConfig(cmd)
	if err != nil {
		return err
	}
	if len(cfg.Listen) == 0 {
		return misused("%s has no [[listen]] block, so nobody could reach the server; add one", path)
	}
	beServer()
	doors, err := openDoors(cfg.Listen)
	if err != nil {
		return err
	}
	defer closeDoors(doors)
	h, err := openToServe(cmd.Context(), cfg, newLog(cmd.ErrOrStderr(), cfg.Log))
	if err != nil {
		return err
	}
	return h.serve(cmd.Context(), doors, func() error {
		warnOfRoot(h.log)
		if wantsJSON(cmd) {
			return printJSON(cmd.OutOrStdout(), map[string]any{"ready": true, "config": path, "ports": ports(doors)})
		}
		return nil
	})
}

// beServer sets up what concerns the process as a whole.
func beServer() {
	limitMemory()
	// Whoever reads the log may end; the server does not end with him.
	signal.Ignore(syscall.SIGPIPE)
}

// commandTime is how long a command may have the house that a server is to open.
const commandTime = 15 * time.Second

// openToServe opens the house for a server. A command may have it for a moment; whoever
// does not leave soon is named.
func openToServe(ctx context.Context, cfg *conf.Config, log *slog.Logger) (*house, error) {
	for deadline := time.Now().Add(commandTime); lockHolder(engineLock(cfg)) > 0 && time.Now().Before(deadline); {
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(100 * time.Millisecond):
		}
	}
	who := "another process"
	if pid := lockHolder(engineLock(cfg)); pid > 0 {
		who = processName(pid)
	} else if h, err := openAs(ctx, &house{cfg: cfg, log: log, serving: true}); !fault.Is(err, fault.Busy) {
		return h, err
	}
	return nil, failed("the data folder %s is in use by %s; stop it first", cfg.Data, who)
}

// serve opens the doors to everybody, calls ready, and returns when ctx has ended and
// everything is closed. If something fails for good it stops by itself.
func (h *house) serve(parent context.Context, doors []door, ready func() error) error {
	ctx, stop := context.WithCancelCause(context.WithoutCancel(parent))
	defer stop(nil)
	defer context.AfterFunc(parent, func() {
		h.depart(ctx)
		stop(context.Cause(parent))
	})()
	h.goodbye = h.live(stop)
	var wg sync.WaitGroup
	part := func(what string, run func(context.Context) error) {
		wg.Go(func() {
			if err := run(ctx); err != nil && ctx.Err() == nil {
				stop(fmt.Errorf("%s: %w", what, err))
			}
		})
	}
	above := newSupervisor()
	err := h.start(ctx, doors, part)
	if err == nil {
		err = ready()
	}
	if err != nil {
		stop(err)
	} else {
		part("watchdog", func(ctx context.Context) error { above.watch(ctx, func() { h.engine.Healthy() }); return nil })
		h.report(above, "READY=1")
		h.log.Info("ready", "version", thisBuild().Version, "ports", ports(doors), "data", string(h.cfg.Data))
	}
	<-ctx.Done()
	h.log.Info("stopping")
	h.report(above, "STOPPING=1")
	return h.finish(&wg, parent.Err() == nil, context.Cause(ctx))
}

// report tells the supervisor a state.
func (h *house) report(above supervisor, state string) {
	if err := above.tell(state); err != nil {
		h.log.Warn("cannot tell the supervisor", "state", state, "err", err)
	}
}

// warnOfRoot tells an administrator that a defect of this program would be one of root.
func warnOfRoot(log *slog.Logger) {
	if os.Geteuid() == 0 {
		log.Warn("the server runs as root; name a user of its own with the key user, or start it as one with CAP_NET_BIND_SERVICE")
	}
}

// start begins every part of the server. What a part is handed first fails here, so
// that a server that is ready has all its parts.
func (h *house) start(ctx context.Context, doors []door, part func(string, func(context.Context) error)) error {
	certs, err := h.certificates(doors, part)
	if err != nil {
		return err
	}
	for _, d := range doors {
		if !slices.Contains(spoken(), d.Protocol) {
			return misused("this program does not speak %s; it speaks %v", d.Protocol, spoken())
		}
		if d.TLS == conf.Implicit && certs == nil {
			return misused("the listener for %s on %s needs a certificate; name one in [tls] certificate and key, or get one by [tls.acme]", d.Protocol, d.Address)
		}
	}
	socket, err := listenSocket(h.cfg.AdminSocket())
	if err != nil {
		return err
	}
	options, err := h.sessionOptions(certs)
	if err != nil {
		socket.Close()
		return err
	}
	sessions := netsrv.New(options)
	h.work = sessions.Work
	part("admin socket", func(ctx context.Context) error { return h.serveAdmin(ctx, socket) })
	services, public := h.services(), h.publicHTTP(sessions)
	for _, d := range doors {
		part(d.Name(), func(ctx context.Context) error {
			if isHTTP(d.Protocol) {
				return h.servePublic(ctx, sessions.Listener(d.Listener), public, h.tlsFor(d, certs))
			}
			svc := services[d.Name()]
			svc.Name, svc.TLS, svc.Idle, svc.Proxies = d.Name(), tlsModes[d.TLS], h.idle(d.Protocol), d.Proxies
			return h.serveSessions(ctx, sessions, d, svc)
		})
	}
	h.startCare(part)
	return nil
}

// startCare begins what the server does by itself.
func (h *house) startCare(part func(string, func(context.Context) error)) {
	if shared(h.cfg) {
		part("vitals", func(ctx context.Context) error { h.vitals.watch(ctx); return nil })
	}
	part("doubts", h.keepDoubts)
	part("queue", h.keepQueue)
	part("allowance", func(ctx context.Context) error { h.allowance.Run(ctx); return nil })
	if h.policies != nil {
		part("MTA-STS policies", func(ctx context.Context) error { h.policies.Run(ctx); return nil })
	}
	part("daily sweep", h.solely("sweep", h.sweepDaily))
	if every := h.store.PurgeEvery(); every > 0 {
		part("deleted mail", h.solely("purge", func(ctx context.Context) error { h.purge(ctx, every); return nil }))
	}
	if h.trace != nil {
		part("trace", h.keepTrace)
	}
	part("signing keys", h.solely("keys", h.keepKeys))
	part("guard", h.solely("guard", h.keepGuard))
	part("reports", h.keepReports)
	part("sending reports", h.solely("reports", h.sendReports))
	part("links", h.solely("links", h.keepLinks))
	part("disk", h.watchDisk)
	part("memory", giveBack)
}

// finish waits for all parts and closes the house, for as long as a stop may take.
func (h *house) finish(wg *sync.WaitGroup, failed bool, cause error) error {
	done := make(chan error, 1)
	go func() {
		wg.Wait()
		h.tellDoubts()
		h.goodbye()
		done <- h.close()
	}()
	select {
	case err := <-done:
		if failed {
			return cause
		}
		if err == nil {
			err = h.diskFailure()
		}
		return err
	case <-time.After(stopWithin):
		// What is left is on its way to disk or to a peer, and not acknowledged.
		h.log.Warn("leaving without waiting any longer")
		if failed {
			return cause
		}
		return nil
	}
}

// certificates is where connections have their certificate from, nil if there is none, and
// begins what keeps it fresh.
func (h *house) certificates(doors []door, part func(string, func(context.Context) error)) (certs certificateSource, err error) {
	if cert, key := string(h.cfg.TLS.Certificate), string(h.cfg.TLS.Key); cert != "" {
		read, err := netsrv.LoadCertificates(h.log, time.Now, files, [2]string{cert, key})
		if err != nil {
			return nil, misconfigured(err)
		}
		certs = read
	}
	if h.cfg.TLS.ACME.Enabled {
		storage, err := h.acmeStorage(context.Background())
		if err != nil {
			return nil, err
		}
		if h.acme, err = newAuthority(h.cfg, doors, storage, certs, h.renewal, h.log); err != nil {
			return nil, misconfigured(err)
		}
		if certs = h.acme; h.cfg.TLS.ACME.Domains {
			h.acme.people = h.peoplesNames
		}
		part("certificates", h.acme.run)
	}
	if h.certs = certs; certs != nil {
		part("certificate's end", func(ctx context.Context) error { return h.watchCertificate(ctx, certs) })
	}
	return certs, nil
}

func (h *house) sessionOptions(certs certificateSource) (netsrv.Options, error) {
	o := netsrv.Options{
		Log: h.log, Trusted: h.cfg.Trusted, MaxConns: h.cfg.Limits.Connections,
		MaxPerAddress: h.cfg.Limits.ConnectionsPerAddress, MaxPerAccount: h.cfg.Limits.ConnectionsPerAccount,
		Grace: stopGrace, MinVersion: minTLS(h.cfg), Stall: time.Duration(h.cfg.Limits.Stall),
		Processors:       h.cfg.Limits.Processors,
		Login:            time.Duration(h.cfg.Limits.LoginTime),
		NoChannelBinding: !h.cfg.TLS.ChannelBinding, Now: time.Now, NewID: connectionID, Scarce: scarce,
	}
	if certs != nil {
		o.Certificate = certs.Get
	}
	var signers []*x509.Certificate
	var err error
	o.ClientCAs, signers, err = authorities(h.cfg.TLS.ClientCA)
	if file := h.cfg.TLS.ClientCRL; err == nil && file != "" {
		o.Revoked, err = netsrv.LoadRevocations(h.log, time.Now, files, string(file), signers)
	}
	return o, misconfigured(err)
}

// connectionID names a connection in logs and to people: short, and not given twice.
func connectionID() string {
	var b [5]byte
	rand.Read(b[:]) // never fails
	return strings.ToLower(base32.StdEncoding.EncodeToString(b[:]))
}

func minTLS(cfg *conf.Config) uint16 {
	if cfg.TLS.MinVersion == "1.3" {
		return tls.VersionTLS13
	}
	return tls.VersionTLS12
}

var tlsModes = map[conf.TLSMode]netsrv.TLSMode{
	conf.Implicit: netsrv.ImplicitTLS, conf.StartTLS: netsrv.StartTLS, conf.NoTLS: netsrv.NoTLS,
}

// idle is how long a client of a protocol may be silent before it has logged in; SMTP
// makes no difference.
func (h *house) idle(p conf.Protocol) time.Duration {
	switch p {
	case "smtp", "lmtp", "submission", "submissions":
		return time.Duration(h.cfg.SMTP.IdleTimeout)
	}
	return 0
}

func isHTTP(p conf.Protocol) bool { return p == "http" || p == "https" }

// watchDisk ends the server when the disk has failed in a way that only a restart can
// mend: whoever supervises the process starts it again, or is told.
func (h *house) watchDisk(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return nil
	case <-h.engine.Failed():
		return h.engine.Healthy()
	}
}

// purge removes deleted mail that was kept long enough.
func (h *house) purge(ctx context.Context, every time.Duration) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(every):
		}
		began := time.Now()
		n, err := h.store.Purge(ctx)
		switch {
		case ctx.Err() != nil:
		case err != nil:
			h.log.Warn("deleted mail could not be purged; it is tried again", "in", every, "err", err)
		case n > 0:
			h.log.Info("deleted mail purged", "messages", n, "took", time.Since(began).Round(time.Millisecond))
		}
	}
}

// diskFailure tells of a disk that has failed, be it while the house was closed.
func (h *house) diskFailure() error {
	select {
	case <-h.engine.Failed():
		return h.engine.Healthy()
	default:
		return nil
	}
}

// sweepDaily clears away what nobody refers to, soon after the start and then once a
// day.
func (h *house) sweepDaily(ctx context.Context) error {
	for wait := 10 * time.Minute; ; wait = 24 * time.Hour {
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(wait):
		}
		began := time.Now()
		swept, err := h.store.Sweep(ctx)
		if err != nil {
			h.log.Warn("sweep failed; it is tried again tomorrow", "err", err)
			continue
		}
		h.log.Info("swept", "bodies", swept.Blobs, "removed", swept.Removed, "bytes", swept.Bytes, "took", time.Since(began).Round(time.Millisecond))
		h.sweepOrphans(ctx)
	}
}
