package format

import (
	"strconv"
	"strings"

	"github.com/martlet-mail/martlet/internal/fault"
)

// This file writes configurations of programs that bring mail somewhere else.

// mbsync asks for the password unless a command prints it. What it makes is a copy of all
// mailboxes in ~/Mail, kept in step both ways.
func mbsync(f *sheet, a account) error {
	s := a.imap
	if !s.known() {
		return needs("IMAP")
	}
	f.line("# Mail of %s, kept in step with ~/Mail/%s: ~/.mbsyncrc\n# First: mkdir -p ~/Mail/%s; then: mbsync -a", a.address, a.label(), a.label())
	f.line("IMAPAccount %s\nHost %s\nPort %d\nUser %s", a.label(), s.host, s.port, quote(s.user))
	if a.Command != "" {
		f.line("PassCmd %s", quote(a.Command))
	}
	if s.token {
		f.line("# This server takes no password, only tokens (OAuth2): PassCmd has to print one, and a\n# SASL library with XOAUTH2 is needed.\nAuthMechs XOAUTH2")
	}
	f.line("SSLType %s", map[[2]bool]string{{true, false}: "IMAPS", {false, true}: "STARTTLS", {false, false}: "None"}[[2]bool{s.tls, s.stls}])
	if a.CA != "" {
		f.line("CertificateFile %s", quote(a.CA))
	}
	f.line("\nIMAPStore %s-remote\nAccount %s", a.label(), a.label())
	f.line("\nMaildirStore %s-local\nPath %s\nInbox %s\nSubFolders Verbatim", a.label(), quote("~/Mail/"+a.label()+"/"), quote("~/Mail/"+a.label()+"/INBOX"))
	f.line("\nChannel %s\nFar :%s-remote:\nNear :%s-local:\nPatterns *\nCreate Both\nExpunge None\nSyncState *", a.label(), a.label(), a.label())
	return nil
}

// offlineimap asks for the password unless a command prints it.
func offlineimap(f *sheet, a account) error {
	s := a.imap
	if !s.known() {
		return needs("IMAP")
	}
	if err := needsPassword(s, "offlineimap"); err != nil {
		return err
	}
	name, err := bare(s.user)
	if err != nil {
		return err
	}
	label := a.label()
	f.line("# Mail of %s, kept in step with ~/Mail/%s: ~/.offlineimaprc\n[general]\naccounts = %s\n", a.address, label, label)
	f.line("[Account %s]\nlocalrepository = %s-local\nremoterepository = %s-remote\n", label, label, label)
	f.line("[Repository %s-local]\ntype = Maildir\nlocalfolders = ~/Mail/%s\n", label, label)
	f.line("[Repository %s-remote]\ntype = IMAP\nremotehost = %s\nremoteport = %d\nremoteuser = %s", label, s.host, s.port, doubled(name))
	if a.Command != "" {
		f.line("remotepasseval = %s", doubled(`__import__("subprocess").check_output(`+quote(a.Command)+`, shell=True).decode().splitlines()[0]`))
	}
	f.line("ssl = %s\nstarttls = %s", yes(s.tls), yes(s.stls))
	if s.tls || s.stls {
		f.line("sslcacertfile = %s", doubled(or(a.CA, "OS-DEFAULT")))
	}
	return nil
}

// getmail asks for the password unless a command prints it. It knows no STARTTLS, and checks
// certificates only if it is told of authorities.
func getmail(f *sheet, a account) error {
	s, kind := a.imap, "IMAP"
	if !s.known() || !s.tls && a.pop3.tls {
		s, kind = a.pop3, "POP3"
	}
	if !s.known() {
		return needs("IMAP and POP3")
	}
	if s.stls {
		return fault.Newf(fault.Unsupported, "getmail knows no STARTTLS, and %s has no port with TLS from the first byte", s.host)
	}
	name, err := bare(s.user)
	if err != nil {
		return err
	}
	if kind == "IMAP" && strings.ContainsAny(name, "(){} %*\"\\]") { // Python's imaplib sends it as it is
		return fault.Newf(fault.Unsupported, "getmail cannot sign in as %q over IMAP", name)
	}
	f.line("# Collects mail of %s into ~/Mail/%s: ~/.config/getmail/getmailrc\n# First: mkdir -p ~/Mail/%s/new ~/Mail/%s/cur ~/Mail/%s/tmp", a.address, a.label(), a.label(), a.label(), a.label())
	tls := ""
	if s.tls {
		tls = "SSL"
	}
	f.line("[retriever]\ntype = Simple%s%sRetriever\nserver = %s\nport = %d\nusername = %s", kind, tls, s.host, s.port, name)
	if a.Command != "" {
		f.line("password_command = (\"/bin/sh\", \"-c\", %s)", quote(a.Command))
	}
	if s.token {
		f.line("# This server takes no password, only tokens (OAuth2), which password_command has to print.\nuse_xoauth2 = true")
	}
	if s.tls {
		f.line("ca_certs = %s", or(a.CA, "/etc/ssl/certs/ca-certificates.crt"))
	}
	f.line("\n[destination]\ntype = Maildir\npath = ~/Mail/%s/\n\n[options]\n# Mail stays on the server, and each message is brought once.\nread_all = false\ndelete = false", a.label())
	return nil
}

// fetchmail asks for the password, or reads it from ~/.netrc; it can run no command for it.
func fetchmail(f *sheet, a account) error {
	s, kind := a.imap, "IMAP"
	if !s.known() {
		s, kind = a.pop3, "POP3"
	}
	if !s.known() {
		return needs("IMAP and POP3")
	}
	if err := needsPassword(s, "fetchmail"); err != nil {
		return err
	}
	f.line("# Collects mail of %s: ~/.fetchmailrc, readable for you only (chmod 600)", a.address)
	f.line("# The password is asked for, or is in ~/.netrc: machine %s login ... password ...", s.host)
	f.line("# Mail goes to the mail server of this machine; name another program with mda \"...\".")
	f.line("poll %s protocol %s service %d auth password", quote(s.host), kind, s.port)
	f.line("  user %s", quote(s.user))
	switch {
	case s.tls:
		f.line("  ssl sslproto \"TLS1.2+\" sslcertck")
	case s.stls: // insisted on, as a version is named
		f.line("  sslproto \"TLS1.2+\" sslcertck")
	default:
		f.line("  sslproto \"\"")
	}
	if a.CA != "" && (s.tls || s.stls) {
		f.line("  sslcertfile %s", quote(a.CA))
	}
	f.line("  keep")
	return nil
}

// imapsync is a script: its program has no file of settings. Both passwords are asked for,
// unless a command prints that of the source.
func imapsync(f *sheet, a account) error {
	s := a.imap
	if !s.known() {
		return needs("IMAP")
	}
	if err := needsPassword(s, "imapsync"); err != nil {
		return err
	}
	f.line("#!/bin/sh\n# Copies all mail of %s elsewhere; usage: sh FILE HOST2 USER2 [options of imapsync]", strings.TrimSpace(a.address))
	f.line("host2=${1:?the host to copy to is missing}\nuser2=${2:?the user there is missing}\nshift 2")
	if a.Command != "" {
		f.line("IMAPSYNC_PASSWORD1=$(%s) || exit 1\nexport IMAPSYNC_PASSWORD1", a.Command)
	}
	args := []string{"--host1 " + shell(s.host), "--port1 " + strconv.Itoa(s.port), "--user1 " + shell(s.user)}
	verify := " --sslargs1 SSL_verify_mode=1 --sslargs1 " + shell("SSL_verifycn_name="+s.host) + " --sslargs1 SSL_verifycn_scheme=imap"
	if a.CA != "" {
		verify += " --sslargs1 " + shell("SSL_ca_file="+a.CA)
	}
	switch {
	case s.tls:
		args = append(args, "--ssl1"+verify)
	case s.stls:
		args = append(args, "--nossl1 --tls1"+verify)
	default:
		args = append(args, "--nossl1 --notls1")
	}
	f.line("exec imapsync %s --host2 \"$host2\" --user2 \"$user2\" --automap \"$@\"", strings.Join(args, " "))
	return nil
}
