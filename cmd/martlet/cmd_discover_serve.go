package main

import (
	"context"
	"fmt"
	"maps"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/martlet-mail/martlet/internal/discover"
	"github.com/martlet-mail/martlet/internal/discover/clients"
	"github.com/martlet-mail/martlet/internal/dnsx"
	"github.com/martlet-mail/martlet/internal/fault"
)

// serveCheckTime is how long all programs together may take.
const serveCheckTime = 20 * time.Second

func serveCheckFlags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.Bool("serve-check", false, "ask a domain for its settings as each mail program does, and show what each comes to")
	f.String("connect", "", "with --serve-check: host:port of the web server (https) that is asked, whatever the DNS says")
	f.String("connect-http", "", "with --serve-check: the same for http; with --connect alone nobody is asked over http")
}

// serveCheck lets programs ask a domain. An address need not exist.
func serveCheck(cmd *cobra.Command, asked string, o discover.Options) error {
	if !strings.Contains(asked, "@") {
		asked = "check@" + asked
	}
	c := clients.Options{Resolver: o.Resolver, Dial: o.Dial, Roots: o.Roots, Now: o.Now, AllowPrivate: o.AllowPrivate || isOwn(cmd.Context(), o, asked)}
	c.HTTPS, _ = cmd.Flags().GetString("connect")
	c.HTTP, _ = cmd.Flags().GetString("connect-http")
	for _, at := range []string{c.HTTPS, c.HTTP} {
		if _, _, err := net.SplitHostPort(at); at != "" && err != nil {
			return misused("%q is not of the form host:port", at)
		}
	}
	if c.HTTPS != "" && c.HTTP == "" {
		c.HTTP = "-"
	}
	c.AllowPrivate = c.AllowPrivate || c.HTTPS != "" || c.HTTP != "" // the person has said where it is
	wait := serveCheckTime
	if o.Deadline > 0 {
		wait = o.Deadline
	}
	ctx, cancel := context.WithTimeout(cmd.Context(), wait)
	defer cancel()
	all, err := clients.Play(ctx, asked, c)
	if fault.Is(err, fault.Invalid) {
		return misused("%s", fault.Say(err))
	}
	if err != nil {
		return err
	}
	failing := slices.ContainsFunc(all, func(o clients.Outcome) bool { return !o.OK && !o.Unknown })
	if wantsJSON(cmd) {
		for _, o := range all {
			if err := printJSON(cmd.OutOrStdout(), o); err != nil {
				return err
			}
		}
	} else if err := showOutcomes(cmd, asked, all); err != nil {
		return err
	}
	if failing {
		return &failure{code: 1} // the output has said all
	}
	return nil
}

// isOwn tells whether an address is of a domain of this server, which may well be in a network
// that is not public.
func isOwn(ctx context.Context, o discover.Options, address string) bool {
	domain, err := dnsx.ASCII(address[strings.LastIndexByte(address, '@')+1:])
	if err != nil || o.Own == nil {
		return false
	}
	own, err := o.Own(ctx, domain)
	return err == nil && own != nil
}

// mechanismNames are the columns, for people.
var mechanismNames = map[string]string{
	"auto": "autoconfig over https", "well": "autoconfig at the domain itself", "http": "autoconfig over http", "mx": "autoconfig of the mail host's domain", "srv": "records of services",
	"names": "guessed names", "pox": "Autodiscover", "json": "Autodiscover, version 2", "prof": "profile for Apple's devices", "pacc": "PACC, with its digest in the DNS",
}

// showOutcomes draws the table of programs and ways, and says why what failed did.
func showOutcomes(cmd *cobra.Command, asked string, all []clients.Outcome) error {
	out := cmd.OutOrStdout()
	var b strings.Builder
	fmt.Fprintf(&b, "%s as mail programs see it\n\n%-20s", paint(out, bold, clean(asked[strings.LastIndexByte(asked, '@')+1:])), "")
	for _, m := range clients.Mechanisms() {
		fmt.Fprintf(&b, "%-6s", m)
	}
	b.WriteByte('\n')
	marks := map[string]string{clients.Pass: "ok", clients.Fail: "FAIL", clients.Skipped: "?"}
	for _, o := range all {
		fmt.Fprintf(&b, "%-20s", o.Client)
		for _, m := range clients.Mechanisms() {
			mark := "-"
			if i := slices.IndexFunc(o.Tries, func(t clients.Try) bool { return t.Mechanism == m }); i >= 0 {
				mark = marks[o.Tries[i].Status]
			}
			fmt.Fprintf(&b, "%-6s", mark)
		}
		fmt.Fprintln(&b, either(o.OK, "works", either(o.Unknown, "not known", "DOES NOT WORK")))
	}
	said := map[string]bool{}
	for _, o := range all {
		for _, t := range o.Tries {
			line := fmt.Sprintf("%-6s%s: %s\n      %s: %s\n", t.Mechanism, mechanismNames[t.Mechanism], t.Status, clean(t.Asked), clean(t.Why))
			if t.Status != clients.Pass && !said[line] {
				said[line] = true
			}
		}
	}
	for i, line := range slices.Sorted(maps.Keys(said)) {
		fmt.Fprint(&b, either(i == 0, "\n", ""), line)
	}
	for _, o := range all {
		if o.OK {
			fmt.Fprintf(&b, "\n%-20s %s", o.Client, settingsText(o.Services))
		}
	}
	b.WriteByte('\n')
	_, err := out.Write([]byte(b.String()))
	return err
}

// settingsText is what a program would use.
func settingsText(all []discover.Service) string {
	var parts []string
	for _, kinds := range [][]string{{"imap", "pop3"}, {"smtp"}} {
		for _, kind := range kinds {
			if i := slices.IndexFunc(all, func(s discover.Service) bool { return s.Protocol == kind }); i >= 0 {
				parts = append(parts, fmt.Sprintf("%s %s:%d %s", strings.ToUpper(kind), clean(all[i].Host), all[i].Port, strings.ToUpper(all[i].Security)))
				break
			}
		}
	}
	return strings.Join(parts, ", ")
}
