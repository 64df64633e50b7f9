package lab

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// Milters of a Postfix.
type Milters int

const (
	NoMilters Milters = iota
	OpenDKIM          // signs; and OpenDMARC after it says what it thinks
	Rspamd            // signs and says what it thinks
)

const postfixMain = `compatibility_level = 3.6
queue_directory = %[1]s/spool
data_directory = %[1]s/data
command_directory = /usr/sbin
daemon_directory = /usr/lib/postfix/sbin
maillog_file = %[1]s/postfix.log
maillog_file_prefixes = %[1]s
mail_owner = postfix
setgid_group = postdrop
inet_interfaces = all
inet_protocols = %[5]s
myhostname = mx.%[2]s
mydomain = %[2]s
mydestination =
mynetworks = 127.0.0.0/8 [::1]/128
alias_maps =
local_recipient_maps =
virtual_mailbox_domains = %[2]s
virtual_mailbox_maps = texthash:%[1]s/etc/users
virtual_mailbox_base = %[1]s/boxes
virtual_uid_maps = static:%[3]d
virtual_gid_maps = static:%[4]d
virtual_minimum_uid = 1
smtp_tls_security_level = dane
smtp_dns_support_level = dnssec
smtp_host_lookup = dns
smtp_tls_loglevel = 1
smtp_tls_CAfile = /etc/ssl/certs/ca-certificates.crt
smtp_connect_timeout = 10s
smtpd_tls_security_level = may
smtpd_tls_loglevel = 1
smtpd_tls_received_header = yes
smtpd_tls_cert_file = %[6]s
smtpd_tls_key_file = %[7]s
minimal_backoff_time = 2s
maximal_backoff_time = 4s
queue_run_delay = 2s
smtputf8_enable = yes
milter_default_action = tempfail
smtpd_milters = %[8]s
non_smtpd_milters = $smtpd_milters
`

const postfixMaster = `smtp inet n - n - - smtpd
pickup unix n - n 60 1 pickup
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
tlsmgr unix - - n 1000? 1 tlsmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
verify unix - - n - 1 verify
flush unix n - n 1000? 0 flush
proxymap unix - - n - - proxymap
smtp unix - - n - - smtp
relay unix - - n - - smtp
showq unix n - n - - showq
error unix - - n - - error
retry unix - - n - - error
discard unix - - n - - discard
virtual unix - n n - - virtual
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
postlog unix-dgram n - n - 1 postlogd
`

// Postfix brings a Postfix into the world, whose zone must be there. It uses DANE towards
// others; it publishes TLSA only if its caller does (Peer.Cert.TLSA).
func (w *World) Postfix(domain string, at Place, milters Milters) (*Peer, error) {
	p, err := w.newPeer(domain, at, milters != NoMilters)
	if err != nil {
		return nil, err
	}
	p.Log = filepath.Join(p.Dir, "postfix.log")
	var filters []string
	switch milters {
	case OpenDKIM:
		filters, err = p.openDKIM()
	case Rspamd:
		filters, err = p.rspamd()
	}
	if err != nil {
		return nil, err
	}
	protocols := "all"
	if at.Only4 {
		protocols = "ipv4"
	}
	etc := filepath.Join(p.Dir, "etc")
	var users strings.Builder
	for _, u := range People {
		fmt.Fprintf(&users, "%s@%s %s/\n", u, domain, u)
	}
	for name, text := range map[string]string{
		"users":     users.String(),
		"main.cf":   fmt.Sprintf(postfixMain, p.Dir, domain, boxUser, boxGroup, protocols, p.Cert.File, p.Cert.Key, strings.Join(filters, " ")),
		"master.cf": postfixMaster,
	} {
		if err := writeFile(filepath.Join(etc, name), text); err != nil {
			return nil, err
		}
	}
	if err := p.run("mkdir -p " + p.Dir + "/spool " + p.Dir + "/data && chown postfix " + p.Dir + "/data && touch " + p.Log); err != nil {
		return nil, err
	}
	_, err = p.Serve(p.Greets("127.0.0.1:25"), "postfix", "-c", etc, "start-fg")
	return p, err
}

func writeFile(path, text string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, []byte(text), 0o644)
}
