package main

import (
	"fmt"
	"io"
	"net/url"
	"strings"
)

// readiness is what try tells when every listener is ready: the line of --json, and the
// card.
type readiness struct {
	Ready    bool           `json:"ready"`
	Dir      string         `json:"dir"`
	Config   string         `json:"config"`
	CA       string         `json:"ca"`
	Domain   string         `json:"domain"`
	Accounts []person       `json:"accounts"`
	Ports    map[string]int `json:"ports"`
}

// card prints who and what there is, and commands to paste.
func (r readiness) card(w io.Writer) error {
	var b strings.Builder
	title := func(s string) string { return paint(w, bold, s) }
	fmt.Fprintf(&b, "%s Only this machine can reach it. Ctrl-C stops it; nothing is lost.\n\n", title("Martlet is running."))
	for i, p := range r.Accounts {
		pw := p.Password
		if pw == "" {
			pw = "(the password was changed)"
		}
		fmt.Fprintf(&b, "%-9s %s  %s\n", either(i == 0, "Accounts", ""), p.Address, pw)
	}
	var listed []string
	for _, s := range standardPorts {
		if port, ok := r.Ports[string(s.protocol)]; ok {
			listed = append(listed, fmt.Sprintf("%s %d", s.protocol, port))
		}
	}
	for _, legacy := range []string{"imap-legacy", "imaps-legacy"} {
		if port, ok := r.Ports[legacy]; ok {
			listed = append(listed, fmt.Sprintf("%s %d", legacy, port))
		}
	}
	for i := 0; i < len(listed); i += 6 {
		fmt.Fprintf(&b, "%-9s %s\n", either(i == 0, "Ports", ""), strings.Join(listed[i:min(i+6, len(listed))], "   "))
	}
	fmt.Fprintf(&b, "%-9s %s\n%-9s %s\n", "Folder", r.Dir, "Authority", r.CA)
	for _, c := range r.commands() {
		fmt.Fprintf(&b, "\n%s\n%s\n", title(c.title), c.text)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

type paste struct{ title, text string }

// commands returns those whose protocols are there.
func (r readiness) commands() []paste {
	if len(r.Accounts) < 2 {
		return nil
	}
	from, to := r.Accounts[0], r.Accounts[1]
	for _, p := range []*person{&from, &to} {
		p.Password = either(p.Password == "", "PASSWORD", p.Password)
	}
	var all []paste
	if port := r.Ports["submission"]; port > 0 {
		all = append(all, paste{"Send a message:", fmt.Sprintf(
			`printf 'From: %[1]s\r\nTo: %[2]s\r\nSubject: Hello\r\n\r\nIt works.\r\n' | curl -sS --ssl-reqd --cacert %[3]s --user '%[1]s:%[4]s' --mail-from %[1]s --mail-rcpt %[2]s --upload-file - smtp://localhost:%[5]d`,
			from.Address, to.Address, quoted(r.CA), from.Password, port)})
	}
	if port := r.Ports["imaps"]; port > 0 {
		all = append(all, paste{"Read the newest message:", fmt.Sprintf(
			`curl -sS --cacert %s --user '%s:%s' 'imaps://localhost:%d/INBOX;MAILINDEX=*'`,
			quoted(r.CA), to.Address, to.Password, port)})
	}
	if port := r.Ports["imap"]; port > 0 {
		settings := fmt.Sprintf("set ssl_starttls=no ssl_force_tls=no imap_user=%s imap_pass=%s folder=imap://127.0.0.1:%d spool_file=+INBOX record=+Sent postponed=+Drafts trash=+Trash",
			to.Address, to.Password, port)
		if s := r.Ports["submission"]; s > 0 {
			settings += fmt.Sprintf(" from=%s smtp_url=smtp://%s@127.0.0.1:%d", to.Address, userinfo(to), s)
		}
		all = append(all, paste{"Open the mailbox in neomutt:", fmt.Sprintf("neomutt -n -F /dev/null -e '%s'", settings)})
	}
	return all
}

func userinfo(p person) string {
	return url.QueryEscape(p.Address) + ":" + url.QueryEscape(p.Password)
}

// quoted makes a path one word of a shell.
func quoted(path string) string {
	if strings.Trim(path, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/._-+") == "" {
		return path
	}
	return "'" + strings.ReplaceAll(path, "'", `'\''`) + "'"
}

func either(first bool, a, b string) string {
	if first {
		return a
	}
	return b
}
