package lab

import (
	"fmt"
	"path/filepath"
)

// Exim checks SPF and DKIM itself and says so in Authentication-Results; it signs with
// DKIM and uses DANE and DNSSEC.
const eximConf = `primary_hostname = mx.%[1]s
domainlist local_domains = %[1]s
spool_directory = %[2]s/spool
log_file_path = %[2]s/exim.%%s.log
log_selector = +tls_peerdn +tls_certificate_verified +dnssec +smtp_protocol_error
exim_user = Debian-exim
exim_group = lab
never_users =
tls_advertise_hosts = *
tls_certificate = %[3]s
tls_privatekey = %[4]s
dns_dnssec_ok = 1
%[5]s
message_size_limit = 50M
acl_smtp_rcpt = recipient
acl_smtp_data = data
acl_smtp_dkim = accept
rfc1413_query_timeout = 0s
queue_run_in_order

begin acl
recipient:
  accept hosts = : 127.0.0.1 : ::1
         control = dkim_disable_verify
  deny   message = relay not permitted
         !domains = +local_domains
  require verify = recipient
  warn   spf = none : neutral : pass : fail : softfail : permerror : temperror
  accept
data:
  warn   !hosts = : 127.0.0.1 : ::1
         add_header = :at_start:${authresults {mx.%[1]s}}
  accept

begin routers
out:
  driver = dnslookup
  domains = !+local_domains
  transport = smtp
  ignore_target_hosts = 127.0.0.0/8 : ::1
  dnssec_request_domains = *
  no_more
people:
  driver = accept
  domains = +local_domains
  local_parts = alice : bob : postmaster
  transport = box

begin transports
smtp:
  driver = smtp
  dnssec_request_domains = *
  hosts_try_dane = *
  tls_verify_certificates = /etc/ssl/certs/ca-certificates.crt
  tls_try_verify_hosts = *
  connect_timeout = 10s
  dkim_domain = ${lc:${domain:$h_from:}}
  dkim_selector = %[6]s
  dkim_private_key = %[7]s
  dkim_canon = relaxed
  dkim_strict = 1
box:
  driver = appendfile
  maildir_format
  directory = %[2]s/boxes/$local_part_data
  create_directory
  delivery_date_add
  envelope_to_add
  return_path_add
  user = boxes
  group = lab

begin retry
* * F,1h,2s; F,4d,1h

begin rewrite
begin authenticators
`

// Exim brings an Exim into the world, whose zone must be there.
func (w *World) Exim(domain string, at Place) (*Peer, error) {
	p, err := w.newPeer(domain, at, true)
	if err != nil {
		return nil, err
	}
	p.Log = filepath.Join(p.Dir, "exim.main.log")
	only := ""
	if at.Only4 {
		only = "disable_ipv6 = true"
	}
	text := fmt.Sprintf(eximConf, domain, p.Dir, p.Cert.File, p.Cert.Key, only, p.Sign, p.signingKey())
	if err := p.Write("/etc/exim4/exim4.conf", text); err != nil {
		return nil, err
	}
	if err := p.run("mkdir -p " + p.Dir + "/spool && chown -R Debian-exim:lab " + p.Dir + "/spool && chmod 777 " + p.Dir); err != nil {
		return nil, err
	}
	_, err = p.Serve(p.Greets("127.0.0.1:25"), "exim4", "-bdf", "-q2s", "-oX", "25")
	return p, err
}
