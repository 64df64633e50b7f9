package format

import (
	"fmt"
	"net"
	netmail "net/mail"
	"slices"
	"strconv"
	"strings"

	"github.com/martlet-mail/martlet/internal/fault"
)

// This file writes configurations of programs that people read and send mail with.

// muttrc is for mutt and neomutt, which ask for the password unless a command prints it.
func muttrc(f *sheet, a account) error {
	if !a.imap.known() && !a.pop3.known() && !a.smtp.known() {
		return needs("IMAP, POP3 and SMTP")
	}
	if strings.ContainsAny(a.Command, "`\\") {
		return fault.New(fault.Invalid, "a command with ` or \\ cannot stand in a muttrc; put it into a script")
	}
	used := []server{a.imap, a.smtp}
	if !a.imap.known() {
		used[0] = a.pop3
	}
	starttls := slices.ContainsFunc(used, func(s server) bool { return s.stls })
	if starttls && slices.ContainsFunc(used, func(s server) bool { return !s.encrypted() }) {
		return fault.New(fault.Unsupported, "mutt has one setting for all servers, so it cannot insist on STARTTLS at one of these and do without encryption at the other")
	}
	f.line("# Mail of %s for mutt and neomutt: ~/.config/neomutt/neomuttrc or ~/.muttrc", a.address)
	f.line("set from = %s", mutt(a.address))
	if a.Name != "" {
		f.line("set realname = %s", mutt(a.Name))
	}
	secret := func(kind string, s server) {
		switch {
		case s.token && a.Command != "":
			f.line("set %s_authenticators = \"oauthbearer:xoauth2\"\nset %s_oauth_refresh_command = %s", kind, kind, mutt(a.Command))
		case s.token:
			f.line("# This server takes no password, only tokens (OAuth2). A command that prints one:\n# set %s_authenticators = \"oauthbearer:xoauth2\"\n# set %s_oauth_refresh_command = \"...\"", kind, kind)
		default:
			if kind != "pop" && (s.tls || s.stls) { // neomutt of Debian 12 fails with SCRAM and channel binding
				f.line("set %s_authenticators = \"plain:login\"", kind)
			}
			if a.Command != "" {
				f.line("set %s_pass = \"`%s`\"", kind, a.Command)
			}
		}
	}
	if s := a.imap; s.known() {
		f.line("set imap_user = %s", mutt(s.user))
		secret("imap", s)
		f.line("set folder = %s", mutt(scheme("imap", s)+hostPort(s)+"/"))
		f.line("set spool_file = \"+INBOX\"\nset record = \"+Sent\"\nset postponed = \"+Drafts\"\nset trash = \"+Trash\"")
	} else if s := a.pop3; s.known() {
		f.line("set pop_user = %s", mutt(s.user))
		secret("pop", s)
		f.line("set pop_host = %s", mutt(scheme("pop", s)+hostPort(s)))
	}
	if s := a.smtp; s.known() {
		f.line("set smtp_url = %s", mutt(scheme("smtp", s)+percent(s.user)+"@"+hostPort(s)+"/"))
		secret("smtp", s)
	}
	secure := used[0].encrypted() && used[1].encrypted()
	f.line("set ssl_starttls = %s\nset ssl_force_tls = %s", yes(secure || starttls), yes(secure))
	if a.CA != "" {
		f.line("set ssl_ca_certificates_file = %s", mutt(a.CA))
	}
	return nil
}

// encrypted holds for a server that is not there, too.
func (s server) encrypted() bool { return !s.known() || s.tls || s.stls }

func yes(on bool) string {
	if on {
		return "yes"
	}
	return "no"
}

// scheme begins a URL.
func scheme(protocol string, s server) string {
	if s.tls {
		protocol += "s"
	}
	return protocol + "://"
}

func hostPort(s server) string { return net.JoinHostPort(s.host, strconv.Itoa(s.port)) }

// msmtp asks for the password unless a command prints it.
func msmtp(f *sheet, a account) error {
	s := a.smtp
	if !s.known() {
		return needs("SMTP")
	}
	if strings.Contains(a.address, "%") {
		return fault.New(fault.Invalid, "msmtp takes % in an address for a pattern")
	}
	name, err := bare(s.user)
	if err != nil {
		return err
	}
	f.line("# Sending mail of %s: ~/.msmtprc or ~/.config/msmtp/config, readable for you only", a.address)
	f.line("account %s\nhost %s\nport %d\nfrom %s", a.label(), s.host, s.port, word(a.address))
	if s.token {
		f.line("# This server takes no password, only tokens (OAuth2), which passwordeval has to print.\nauth oauthbearer")
	} else {
		f.line("auth on")
	}
	f.line("user %s", word(name))
	if a.Command != "" {
		f.line("passwordeval %s", word(a.Command))
	}
	f.line("tls %s\ntls_starttls %s", on(s.tls || s.stls), on(s.stls))
	if a.CA != "" {
		f.line("tls_trust_file %s", word(a.CA))
	}
	f.line("account default : %s", a.label())
	return nil
}

// word is a value of msmtp: quotes around it go, and nothing within means anything else.
func word(s string) string { return `"` + s + `"` }

func on(v bool) string {
	if v {
		return "on"
	}
	return "off"
}

// aerc does not ask for a password; a command prints it. User names are percent-encoded, so
// that nothing of them means anything to the reader of the file.
func aerc(f *sheet, a account) error {
	if !a.imap.known() {
		return needs("IMAP")
	}
	command := a.fallback()
	if strings.ContainsAny(command, "\"`\\") || strings.Contains(command, " #") || strings.Contains(command, " ;") || strings.Contains(command, "%(") {
		return fault.New(fault.Invalid, "this command cannot stand in accounts.conf; put it into a script")
	}
	from := a.address
	if a.Name != "" {
		from = (&netmail.Address{Name: a.Name, Address: a.address}).String()
	}
	if strings.ContainsAny(from, "`\\;#") || strings.Contains(from, "%(") {
		return fault.New(fault.Invalid, "this name or address cannot stand in accounts.conf")
	}
	f.line("# Mail of %s: ~/.config/aerc/accounts.conf, readable for you only", a.address)
	if a.CA != "" {
		f.line("# aerc has no setting for authorities; start it with SSL_CERT_FILE=%s", a.CA)
	}
	f.line("[%s]", a.label())
	f.line("source = %s%s@%s", aercScheme("imap", a.imap), percent(a.imap.user), hostPort(a.imap))
	f.line("source-cred-cmd = %s", command)
	if s := a.smtp; s.known() {
		way := map[bool]string{true: "+xoauth2", false: "+plain"}[s.token]
		f.line("outgoing = %s%s://%s@%s", strings.TrimSuffix(scheme("smtp", s), "://"), way, percent(s.user), hostPort(s))
		f.line("outgoing-cred-cmd = %s", command)
		if s.stls {
			f.line("smtp-starttls = yes")
		}
	}
	f.line("from = %s\ndefault = INBOX\ncopy-to = Sent\npostpone = Drafts\narchive = Archive", from)
	return nil
}

func aercScheme(protocol string, s server) string {
	switch {
	case s.tls && s.token:
		protocol += "s+xoauth2"
	case s.tls:
		protocol += "s"
	case !s.stls:
		protocol += "+insecure"
	}
	return fmt.Sprintf("%s://", protocol)
}
