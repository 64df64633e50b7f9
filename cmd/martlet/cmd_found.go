package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/net/publicsuffix"

	"github.com/martlet-mail/martlet/internal/discover"
	"github.com/martlet-mail/martlet/internal/dnsx"
	"github.com/martlet-mail/martlet/internal/fault"
)

// Commands that sign in at a server that was only found from an address. Whoever can answer for
// the DNS on the way can have any host found; so none that could be somebody else's hears a
// password before the person has said whose it is (draft-ietf-mailmaint-autoconfig).

// yesHostFlag is how a person says so without a terminal.
func yesHostFlag(f *pflag.FlagSet) {
	f.String("yes-host", "", "of an address: this host may hear the password, if it is the one that is found; needed without a terminal where it could be somebody else's")
}

// foundHost is a server that was found, and how it is connected to.
type foundHost struct {
	discover.Service
	dial dialer
}

// findHost finds the server of an address for the first of the protocols that has one, says what
// it found, and asks the person if it could be somebody else's. The flag is the one that the
// address was given by.
func findHost(cmd *cobra.Command, flag, address string, protocols []string, insecure bool) (at foundHost, err error) {
	opt, err := discoverOptions(cmd)
	if err != nil {
		return at, err
	}
	finder, err := discover.New(opt)
	if err != nil {
		return at, misconfigured(err)
	}
	a, err := finder.Find(cmd.Context(), address)
	if fault.Is(err, fault.Invalid) {
		return at, misused("%s: %s", flag, fault.Say(err))
	}
	if err != nil {
		return at, err
	}
	for _, p := range protocols {
		for _, s := range a.Services {
			if s.Protocol != p || s.Security != discover.TLS && s.Security != discover.StartTLS && !insecure {
				continue
			}
			sayFound(cmd.ErrOrStderr(), address, s, a.Notes)
			at = foundHost{s, foundDialer(opt, s)}
			if _, err := foundAddresses(cmd.Context(), opt, s); err != nil {
				return at, err
			}
			return at, hostConfirmed(cmd, address, s)
		}
	}
	return at, failed("no %s server is known for %s; name it with --from %ss://HOST (martlet discover %[2]s --explain says what was tried)",
		strings.ToUpper(strings.Join(protocols, " or ")), clean(address), protocols[0])
}

func sayFound(w io.Writer, address string, s discover.Service, notes []string) {
	fmt.Fprintf(w, "the mail of %s is at %s, %s, %s, user %s (%s: %s)\n", clean(address),
		net.JoinHostPort(clean(s.Host), strconv.Itoa(s.Port)), strings.ToUpper(s.Protocol), s.Security, clean(s.Username), s.Confidence, s.Source)
	for _, n := range notes {
		fmt.Fprintln(w, clean(n))
	}
}

// mistrust says why a host that was found could be somebody else's; "" if it is vouched for.
func mistrust(s discover.Service) string {
	switch {
	case s.Insecure:
		return "others on the way could have changed who that is"
	case s.Foreign:
		return "nobody vouches for it whose word cannot be forged"
	case s.Confidence == discover.Guessed:
		return "it is only a guess"
	}
	return ""
}

// owner is the part of a host's name that somebody has registered.
func owner(host string) string {
	if _, err := netip.ParseAddr(host); err == nil {
		return host
	}
	if base, err := publicsuffix.EffectiveTLDPlusOne(host); err == nil {
		return base
	}
	return host
}

// hostConfirmed asks the person whether a host is meant, if it could be somebody else's.
func hostConfirmed(cmd *cobra.Command, address string, s discover.Service) error {
	said, _ := cmd.Flags().GetString("yes-host")
	if said != "" {
		if strings.EqualFold(strings.TrimSuffix(said, "."), s.Host) {
			return nil
		}
		return failed("--yes-host is %s, but the mail of %s is found at %s: nobody was sent a password", clean(said), clean(address), clean(s.Host))
	}
	why := mistrust(s)
	if why == "" {
		return nil
	}
	what := fmt.Sprintf("%s, which belongs to %s, was found for %s %s, but %s", clean(s.Host), clean(owner(s.Host)), clean(address), sourceText(s), why)
	if !isTerminal(cmd.InOrStdin()) || !isTerminal(cmd.ErrOrStderr()) {
		return failed("%s. If it keeps that mail, say so with --yes-host %s, or name the server with --from", what, clean(s.Host))
	}
	fmt.Fprintf(cmd.ErrOrStderr(), "%s.\nSend the password there? [y/N] ", what)
	line, _ := bufio.NewReader(io.LimitReader(cmd.InOrStdin(), 100)).ReadString('\n')
	switch strings.ToLower(strings.TrimSpace(line)) {
	case "y", "yes":
		return nil
	}
	return failed("nobody was sent a password; name the server with --from")
}

// foundDialer connects to a host that was found at the addresses that foundAddresses has then.
func foundDialer(o discover.Options, s discover.Service) dialer {
	d := net.Dialer{Timeout: 30 * time.Second}
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		_, port, err := net.SplitHostPort(address)
		if err != nil {
			return nil, err
		}
		addrs, err := foundAddresses(ctx, o, s)
		if err != nil {
			return nil, err
		}
		var conn net.Conn
		for _, a := range addrs {
			if conn, err = d.DialContext(ctx, network, net.JoinHostPort(a.String(), port)); err == nil || ctx.Err() != nil {
				break
			}
		}
		return conn, err
	}
}

// foundAddresses are those of a host that may be connected to: its name is asked of the name
// server that found it, and what is not public is left out, as it was then.
func foundAddresses(ctx context.Context, o discover.Options, s discover.Service) (ok []netip.Addr, err error) {
	private := o.AllowPrivate || s.Source == "own" || s.Source == "override"
	var all []netip.Addr
	if a, bad := netip.ParseAddr(s.Host); bad == nil {
		all, private = []netip.Addr{a}, private || a.IsLoopback() // a program on this machine: only the table names one
	} else if all, err = lookedUp(ctx, o, s.Host); err != nil {
		return nil, err
	}
	for _, a := range all {
		if a = a.Unmap(); private || dnsx.Public(a) {
			ok = append(ok, a)
		}
	}
	if len(ok) == 0 {
		return nil, fault.Newf(fault.Denied, "%s leads to an address that is not public; it was not connected to (discover.allow_private allows it)", s.Host)
	}
	return ok, nil
}

// lookedUp are the addresses of a host; one family is enough.
func lookedUp(ctx context.Context, o discover.Options, host string) ([]netip.Addr, error) {
	var all []netip.Addr
	var failure error
	for _, six := range [...]bool{false, true} {
		addrs, _, err := o.Resolver.LookupIP(ctx, host, six)
		all = append(all, addrs...)
		if err != nil && (failure == nil || !fault.Is(err, fault.NotFound)) {
			failure = err
		}
	}
	if len(all) == 0 {
		return nil, fault.Wrap(fault.Unavailable, "the name server has no address of "+host, failure)
	}
	return all, nil
}
