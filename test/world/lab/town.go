package lab

import (
	"errors"
	"fmt"
	"io"
	"sync"
)

// Town is the world with everybody in it: ours in the middle.
type Town struct {
	*World
	Martlet   *Martlet // martlet.example
	Postfix   *Peer    // postfix.example: DANE, OpenDKIM and OpenDMARC
	STS       *Peer    // sts.example: Postfix with Rspamd in an unsigned zone, without IPv6 and DANE
	Exim      *Peer    // exim.example: DANE
	OpenSMTPD *Peer    // smtpd.example: no TLSA
	Client    *Host    // client.example: where people are
	Clock     *Clock   // tells the time at ns.example
	Attacker  *Host    // mx.evil.example: a host like any other, with bad intentions
}

// Zones of the town.
var townZones = []Zone{
	{Name: "martlet.example"}, {Name: "postfix.example"}, {Name: "exim.example"}, {Name: "smtpd.example"}, {Name: "evil.example"},
	{Name: "sts.example", Trust: Insecure}, {Name: "bogus.example", Trust: Bogus},
}

// NewTown builds it. Settings go to Martlet's configuration.
func NewTown(settings ...string) (t *Town, err error) {
	w, err := New()
	if err != nil {
		return nil, err
	}
	t = &Town{World: w}
	defer func() {
		if err != nil {
			err = fmt.Errorf("%w\n%s", err, w.Logs(10))
			w.Close()
		}
	}()
	if err := w.DNS.AddZones(townZones...); err != nil {
		return nil, err
	}
	if t.Clock, err = w.DNS.Server.clock(); err != nil {
		return nil, err
	}
	if err := w.DNS.Set("2.0.0.127.bl.example", "A", "127.0.0.2"); err != nil {
		return nil, err
	}
	return t, together(
		func() error {
			binary, err := Build(w.Dir)
			if err != nil {
				return err
			}
			t.Martlet, err = w.Martlet(binary, "martlet.example", Place{Number: 10}, settings...)
			return err
		},
		func() (err error) {
			t.Postfix, err = w.Postfix("postfix.example", Place{Number: 20}, OpenDKIM)
			return errors.Join(err, t.tlsa(t.Postfix))
		},
		func() (err error) {
			t.STS, err = w.Postfix("sts.example", Place{Number: 30, Only4: true, Alias: []string{"mta-sts.sts.example"}}, Rspamd)
			return err
		},
		func() (err error) {
			t.Exim, err = w.Exim("exim.example", Place{Number: 40})
			return errors.Join(err, t.tlsa(t.Exim))
		},
		func() (err error) {
			t.OpenSMTPD, err = w.OpenSMTPD("smtpd.example", Place{Number: 50})
			return err
		},
		func() (err error) {
			t.Client, err = w.Host("client.example", Place{Number: 60})
			return err
		},
		func() (err error) {
			t.Attacker, err = w.Host("mx.evil.example", Place{Number: 66})
			return errors.Join(err, w.DNS.AddAll("evil.example. 3600 IN MX 10 mx.evil.example.\nevil.example. 3600 IN TXT \"v=spf1 mx -all\"\n"))
		},
	)
}

// tlsa publishes what a peer's certificate is, for DANE.
func (t *Town) tlsa(p *Peer) error {
	if p == nil {
		return nil
	}
	return t.DNS.Set("_25._tcp."+p.Name, "TLSA", p.Cert.TLSA())
}

// together does all at the same time.
func together(all ...func() error) error {
	errs := make([]error, len(all))
	var wg sync.WaitGroup
	for i, one := range all {
		wg.Go(func() { errs[i] = one() })
	}
	wg.Wait()
	return errors.Join(errs...)
}

// Describe tells a person what there is and how to enter it.
func (w *World) Describe(to io.Writer) {
	for _, h := range w.Hosts() {
		six := "no IPv6"
		if h.IPv6.IsValid() {
			six = h.IPv6.String()
		}
		fmt.Fprintf(to, "%-18s %-14s %-16s %s\n", h.Name, h.IPv4, six, h.Enter())
	}
	fmt.Fprintf(to, "logs and state of each are in %s; all passwords are %q\n", w.Dir, Password)
}
