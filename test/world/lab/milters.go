package lab

import (
	"fmt"
	"path/filepath"
)

// Mail that comes from the host itself is signed, all other is checked.
const openDKIMConf = `Syslog yes
SyslogSuccess yes
LogWhy yes
UMask 002
UserID root
Mode sv
Domain %[1]s
Selector %[2]s
KeyFile %[3]s
Canonicalization relaxed/relaxed
OversignHeaders From
Socket inet:8891@127.0.0.1
PidFile /run/opendkim.pid
AuthservID %[4]s
AlwaysAddARHeader yes
Nameservers %[5]s
RequireSafeKeys no
Background no
`

const openDMARCConf = `Syslog yes
UserID root
AuthservID %[1]s
TrustedAuthservIDs %[1]s
SPFSelfValidate yes
SPFIgnoreResults yes
RejectFailures no
PublicSuffixList /usr/share/publicsuffix/public_suffix_list.dat
IgnoreHosts %[2]s
Socket inet:8893@127.0.0.1
PidFile /run/opendmarc.pid
Background no
`

// openDKIM starts OpenDKIM and OpenDMARC on the host, and says where they are.
func (p *Peer) openDKIM() ([]string, error) {
	dkim, dmarc, ignore := filepath.Join(p.Dir, "opendkim.conf"), filepath.Join(p.Dir, "opendmarc.conf"), filepath.Join(p.Dir, "opendmarc.ignore")
	for file, text := range map[string]string{
		dkim:   fmt.Sprintf(openDKIMConf, p.Domain, p.Sign, p.signingKey(), p.Name, Resolver4),
		dmarc:  fmt.Sprintf(openDMARCConf, p.Name, ignore),
		ignore: "127.0.0.1\n::1\n",
	} {
		if err := writeFile(file, text); err != nil {
			return nil, err
		}
	}
	if _, err := p.Serve(p.Answers("127.0.0.1:8891"), "opendkim", "-x", dkim, "-f"); err != nil {
		return nil, err
	}
	if _, err := p.Serve(p.Answers("127.0.0.1:8893"), "opendmarc", "-c", dmarc, "-f"); err != nil {
		return nil, err
	}
	return []string{"inet:127.0.0.1:8891", "inet:127.0.0.1:8893"}, nil
}

// rspamdConf has of Rspamd what checks and signs, and nothing that judges words.
const rspamdConf = `lua = "%[1]s/rspamd/rspamd.lua"
options {
    pidfile = "/run/rspamd.pid";
    tempdir = "/tmp";
    filters = "dkim";
    url_tld = "%[1]s/rspamd/suffixes";
    disable_hyperscan = true;
    local_addrs = ["127.0.0.0/8", "::1"];
    explicit_modules = ["settings"];
    dns { nameserver = ["%[3]s"]; timeout = 2s; retransmits = 3; }
}
logging { type = "file"; filename = "%[1]s/rspamd.log"; level = "info"; }
worker "hs_helper" { count = 0; }
worker "rspamd_proxy" {
    bind_socket = "127.0.0.1:11332";
    milter = yes;
    timeout = 60s;
    upstream "local" { default = yes; self_scan = yes; }
    count = 1;
}
actions { reject = 1000; add_header = 900; }
metric { name = "default"; }
modules { path = "%[1]s/rspamd/plugins"; }
dkim { trusted_only = false; }
spf { }
dmarc { }
dkim_signing {
    sign_authenticated = true; sign_local = true; use_domain = "header"; allow_username_mismatch = true;
    domain { %[2]s { path = "%[4]s"; selector = "%[5]s"; } }
}
milter_headers { use = ["authentication-results"]; skip_local = true; }
`

// rspamd starts Rspamd on the host, and says where it is.
func (p *Peer) rspamd() ([]string, error) {
	etc := filepath.Join(p.Dir, "rspamd")
	for file, text := range map[string]string{
		"rspamd.conf": fmt.Sprintf(rspamdConf, p.Dir, p.Domain, Resolver4, p.signingKey(), p.Sign),
		"suffixes":    "example\n",
		"rspamd.lua":  "require \"global_functions\" ()\nconfig['regexp'] = {}\nrspamd_maps = {}\n",
	} {
		if err := writeFile(filepath.Join(etc, file), text); err != nil {
			return nil, err
		}
	}
	err := p.run(`mkdir -p /var/lib/rspamd /var/log/rspamd ` + etc + `/plugins
for m in spf dmarc dkim_signing milter_headers; do ln -s /usr/share/rspamd/plugins/$m.lua ` + etc + `/plugins/; done`)
	if err != nil {
		return nil, err
	}
	if _, err := p.Serve(p.Answers("127.0.0.1:11332"), "rspamd", "-f", "-i", "-u", "root", "-g", "root", "-c", filepath.Join(etc, "rspamd.conf")); err != nil {
		return nil, err
	}
	return []string{"inet:127.0.0.1:11332"}, nil
}
