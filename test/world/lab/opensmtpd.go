package lab

import (
	"fmt"
	"path/filepath"
	"strings"
	"time"
)

const openSMTPDConf = `pki lab cert "%[3]s"
pki lab key "%[4]s"
table users file:%[2]s/users
%[5]s
listen on 127.0.0.1 port 25 hostname mx.%[1]s%[6]s
listen on eth0 port 25 tls pki lab hostname mx.%[1]s
action "box" maildir "%[2]s/boxes/%%{rcpt.user}" virtual <users>
action "out" relay helo mx.%[1]s
match from any for domain "%[1]s" action "box"
match from local for any action "out"
`

const openSMTPDSigner = `filter "sign" proc-exec "filter-dkimsign -d %[1]s -s %[2]s -k %[3]s" user root group root`

// OpenSMTPD brings an OpenSMTPD into the world, whose zone must be there. It signs with
// DKIM; it checks nothing.
func (w *World) OpenSMTPD(domain string, at Place) (*Peer, error) {
	p, err := w.newPeer(domain, at, true)
	if err != nil {
		return nil, err
	}
	p.Log = filepath.Join(p.Dir, "syslog.log")
	if p.Cert, err = w.CA.IssueRSA(90*24*time.Hour, p.Name); err != nil { // its engine for keys fails with others
		return nil, err
	}
	var users strings.Builder
	for _, u := range People {
		fmt.Fprintf(&users, "%s@%s boxes\n", u, domain)
	}
	conf := filepath.Join(p.Dir, "smtpd.conf")
	signer := fmt.Sprintf(openSMTPDSigner, domain, p.Sign, p.signingKey())
	for file, text := range map[string]string{
		conf:                          fmt.Sprintf(openSMTPDConf, domain, p.Dir, p.Cert.File, p.Cert.Key, signer, ` filter "sign"`),
		filepath.Join(p.Dir, "users"): users.String(),
	} {
		if err := writeFile(file, text); err != nil {
			return nil, err
		}
	}
	if err := p.run("mkdir -p /var/lib/opensmtpd/empty /var/spool/smtpd && chmod 711 /var/spool/smtpd && chmod 600 " + p.Cert.Key + " " + p.signingKey()); err != nil {
		return nil, err
	}
	_, err = p.Serve(p.Greets("127.0.0.1:25"), "smtpd", "-F", "-f", conf)
	return p, err
}
