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

	// Only with several nodes, of which the ports above are the first one's.
	Nodes    []nodeReady    `json:"nodes,omitempty"`
	Database *databaseReady `json:"database,omitempty"`
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
	for _, n := range r.Nodes {
		listPorts(&b, n.Name, n.Ports)
	}
	if len(r.Nodes) == 0 {
		listPorts(&b, "Ports", r.Ports)
	}
	fmt.Fprintf(&b, "%-9s %s\n%-9s %s\n", "Folder", r.Dir, "Authority", r.CA)
	for _, c := range r.commands() {
		fmt.Fprintf(&b, "\n%s\n%s\n", title(c.title), c.text)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// listPorts writes ports under a title.
func listPorts(b *strings.Builder, title string, ports map[string]int) {
	var listed []string
	for _, s := range standardPorts {
		if port, ok := ports[string(s.protocol)]; ok {
			listed = append(listed, fmt.Sprintf("%s %d", s.protocol, port))
		}
	}
	for _, legacy := range []string{"imap-legacy", "imaps-legacy"} {
		if port, ok := ports[legacy]; ok {
			listed = append(listed, fmt.Sprintf("%s %d", legacy, port))
		}
	}
	for i := 0; i < len(listed); i += 6 {
		fmt.Fprintf(b, "%-9s %s\n", either(i == 0, title, ""), strings.Join(listed[i:min(i+6, len(listed))], "   "))
	}
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
	all := r.acrossNodes(to)
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

// acrossNodes shows that one node hears at once of what another delivers, and what to do to
// see one go on alone.
func (r readiness) acrossNodes(who person) (all []paste) {
	if len(r.Nodes) < 2 || r.Nodes[0].Ports["imap"] == 0 || r.Nodes[1].Ports["smtp"] == 0 {
		return nil
	}
	one, two := r.Nodes[0], r.Nodes[1]
	return []paste{
		{fmt.Sprintf("A session that idles on %s hears of a message that %s delivers:", one.Name, two.Name), fmt.Sprintf(
			`{ printf 'a LOGIN %[1]s %[2]s\r\nb SELECT INBOX\r\nc IDLE\r\n'; sleep 1; printf 'From: me@example.org\r\nSubject: Hello from %[5]s\r\n\r\nIt works.\r\n' | curl -sS --mail-from me@example.org --mail-rcpt %[1]s --upload-file - smtp://127.0.0.1:%[4]d; sleep 1; printf 'DONE\r\nd LOGOUT\r\n'; sleep 1; } | curl -sS telnet://127.0.0.1:%[3]d`,
			who.Address, who.Password, one.Ports["imap"], two.Ports["smtp"], two.Name)},
		{fmt.Sprintf("Kill %s as a power cut would; %s goes on:", one.Name, two.Name), fmt.Sprintf("kill -9 %d", one.PID)},
	}
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
