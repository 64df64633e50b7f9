<?php
/*
 * Works through a mailbox with Roundcube's own IMAP library.
 *
 * Arguments: host, port, "ssl" or "", file of the certificate authority or "", user, password.
 */

const INSTALL_PATH = '/usr/share/roundcube/';
error_reporting(E_ALL & ~E_NOTICE & ~E_DEPRECATED);
require_once INSTALL_PATH . 'program/lib/Roundcube/bootstrap.php';
ini_set('display_errors', 'stderr');
ini_set('log_errors', '0');

[, $host, $port, $mode, $ca, $user, $password] = $argv;

function fail($what)
{
    global $c;
    fwrite(STDERR, "$what\nthe library's error: " . ($c->error ?? '') . "\n");
    exit(1);
}

function must($is, $what)
{
    return $is ?: fail($what);
}

function same($got, $want, $what)
{
    if ($got != $want) {
        fail("$what: " . var_export($got, true) . "\nand not " . var_export($want, true));
    }
}

function connect()
{
    global $host, $port, $mode, $ca, $user, $password;
    $c = new rcube_imap_generic();
    $options = ['port' => (int) $port, 'ssl_mode' => $mode ?: null, 'auth_type' => 'CHECK', 'timeout' => 30,
        'ident' => ['name' => 'Roundcube', 'version' => RCUBE_VERSION]];
    if ($ca) {
        $options['socket_options'] = ['ssl' => ['cafile' => $ca, 'verify_peer' => true, 'peer_name' => 'localhost']];
    }
    if (!$c->connect($host, $user, $password, $options)) {
        fail('no connection: ' . $c->error);
    }
    return $c;
}

function mailboxes($c)
{
    must($c->getHierarchyDelimiter() === '/', 'the delimiter');
    same($c->getNamespace()['personal'], [['', '/']], 'the namespace');
    $name = 'RC/' . rcube_charset::convert('Grüße & Co', 'UTF-8', 'UTF7-IMAP');
    must($c->createFolder('RC'), 'CREATE');
    must($c->createFolder($name), 'CREATE of a name in modified UTF-7');
    must($c->createFolder('RC/Done', ['\\Archive']) || $c->resultcode == 'USEATTR', 'CREATE with a special use');
    must($c->subscribe('RC'), 'SUBSCRIBE');
    must(in_array($name, $c->listMailboxes('', 'RC/*')), 'LIST shows what was made');
    must(in_array('RC', $c->listSubscribed('', '*')), 'the subscribed ones');
    same($c->listSubscribed('', 'RC/*'), [], 'subscribed below RC');
    $all = $c->listMailboxes('', '*', ['SUBSCRIBED', 'SPECIAL-USE']);
    must(isset($all['INBOX'], $all['RC']), 'LIST with options');
    must(in_array('\\Sent', $c->data['LIST']['Sent']), 'special uses in LIST');
    $special = $c->listMailboxes('', '*', ['SUBSCRIBED'], ['SPECIAL-USE']);
    must(in_array('Trash', $special) && !in_array('INBOX', $special), 'LIST of those with a special use');
    must($c->renameFolder($name, 'RC/Other'), 'RENAME');
    must($c->deleteFolder('RC/Other'), 'DELETE');
    must($c->deleteFolder('RC/Other') === false, 'a second DELETE is refused');
}

function message($i, $reply = null)
{
    $refs = $reply === null ? '' : "In-Reply-To: <rc-$reply@peers.example>\r\nReferences: <rc-$reply@peers.example>\r\n";
    return "From: =?UTF-8?Q?Ad=C3=A8le?= <sender$i@peers.example>\r\nTo: you@martlet.test\r\nSubject: rc " . chr(105 - $i) . "\r\n" .
        "Date: Mon, 4 Mar 2024 1$i:00:00 +0000\r\nMessage-ID: <rc-$i@peers.example>\r\n$refs" .
        "MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=\"=b\"\r\n\r\n--=b\r\nContent-Type: text/plain; charset=utf-8\r\n" .
        "Content-Transfer-Encoding: quoted-printable\r\n\r\nText $i, gr=C3=BCn\r\n--=b\r\nContent-Type: application/pdf; name=\"a.pdf\"\r\n" .
        "Content-Disposition: attachment; filename*=utf-8''%C3%A4.pdf\r\nContent-Transfer-Encoding: base64\r\n\r\n" .
        chunk_split(base64_encode(str_repeat(chr($i), 1000))) . "--=b--\r\n";
}

function messages($c)
{
    for ($i = 0; $i < 6; $i++) {
        $m = message($i, $i % 3 ? $i - 1 : null);
        $uid = $c->append('RC', $m, $i == 5 ? ['SEEN', 'FLAGGED'] : [], '04-Mar-2024 1' . $i . ':00:00 +0000', $i == 4);
        same($uid, $i + 1, "the UID of message $i");
    }
    $status = $c->status('RC', ['UIDNEXT', 'UIDVALIDITY', 'HIGHESTMODSEQ', 'SIZE']);
    same([$status['MESSAGES'], $status['UNSEEN'], $status['UIDNEXT']], [6, 5, 7], 'STATUS');
    same($c->countMessages('RC'), 6, 'countMessages');
    same($c->countUnseen('RC'), 5, 'countUnseen');
    must($c->select('RC'), 'SELECT');
    $h = $c->fetchHeader('RC', 3, true, true, ['MESSAGE-ID']);
    same([$h->uid, $h->subject, $h->from, $h->size, $h->messageID], [3, 'rc g', '=?UTF-8?Q?Ad=C3=A8le?= <sender2@peers.example>',
        strlen(message(2, 1)), '<rc-2@peers.example>'], 'headers');
    same($h->timestamp, gmmktime(12, 0, 0, 3, 4, 2024), 'the date');
    $structure = $c->getStructure('RC', 3, true);
    same([$structure[0][0], $structure[0][5], $structure[1][1], $structure[2]], ['text', 'quoted-printable', 'pdf', 'mixed'], 'BODYSTRUCTURE');
    same($c->handlePartBody('RC', 3, true, '1', 'quoted-printable'), "Text 2, grün", 'a text part, decoded');
    same($c->handlePartBody('RC', 3, true, '2', 'base64'), str_repeat(chr(2), 1000), 'an attachment, decoded');
    same($c->handlePartBody('RC', 3, true, ''), message(2, 1), 'the whole message');
    must(strpos($c->fetchPartHeader('RC', 3, true, '2'), 'filename*=utf-8') !== false, 'the MIME headers of a part');
    $mime = $c->fetchMIMEHeaders('RC', 3, ['1', '2']);
    must(strpos($mime[2], 'application/pdf') !== false, 'the MIME headers of all parts');
    must(count($c->fetchHeaders('RC', '1:*', true)) == 6, 'all headers');
}

function order($c)
{
    same($c->sort('RC', 'SUBJECT', 'ALL', true)->get(), [6, 5, 4, 3, 2, 1], 'SORT by subject');
    same($c->sort('RC', 'ARRIVAL', 'UNDELETED', true)->get(), [1, 2, 3, 4, 5, 6], 'SORT by arrival');
    same($c->sort('RC', 'FROM', 'ALL', true)->count(), 6, 'SORT by DISPLAYFROM');
    $t = $c->thread('RC', 'REFERENCES', 'ALL', true);
    same($t->get_tree(), [1 => [2 => [3 => []]], 4 => [5 => [6 => []]]], 'THREAD by references');
    same($c->thread('RC', 'REFS', 'UNSEEN', true)->count_messages(), 5, 'THREAD by refs');
    same($c->search('RC', 'SUBJECT "rc f"', true)->get(), [4], 'SEARCH');
    same($c->search('RC', 'OR HEADER SUBJECT {4}' . "\r\n" . 'rc f BODY {8}' . "\r\n" . 'Text 0, ', true)->get(), [1, 4], 'SEARCH with literals');
    same($c->search('RC', 'CHARSET UTF-8 BODY {5}' . "\r\n" . 'grün', true)->count(), 6, 'SEARCH in UTF-8');
    $e = $c->search('RC', 'UNSEEN', true, ['COUNT', 'MIN', 'MAX', 'ALL']);
    same([$e->count(), $e->min(), $e->max()], [5, 1, 5], 'ESEARCH');
    same($c->index('RC', '1:*', 'DATE', true, true, true)->get(), [1, 2, 3, 4, 5, 6], 'an order made by the library');
    same([$c->UID2ID('RC', 4), $c->ID2UID('RC', 4)], [4, 4], 'numbers and UIDs');
}

function changes($c)
{
    $c->select('RC');
    $before = $c->data['HIGHESTMODSEQ'];
    $validity = $c->data['UIDVALIDITY'];
    must($c->flag('RC', '1:2', 'SEEN'), 'flag');
    must($c->flag('RC', '2', 'FORWARDED'), 'a keyword');
    must($c->unflag('RC', '6', 'SEEN'), 'unflag');
    must($c->copy('1', 'RC', 'RC/Done'), 'COPY');
    same($c->data['COPYUID'], ['1', '1'], 'COPYUID');
    must($c->move('3', 'RC', 'RC/Done'), 'MOVE');
    must($c->flag('RC', '4', 'DELETED'), 'delete');
    must($c->expunge('RC', '4'), 'UID EXPUNGE');
    same($c->search('RC', 'ALL', true)->get(), [1, 2, 5, 6], 'what is left');
    same($c->countMessages('RC/Done'), 2, 'what was copied and moved');
    $c->closeConnection();

    // A session that knows the mailbox as it was before.
    $c = connect();
    must($c->enable('QRESYNC'), 'ENABLE QRESYNC');
    must($c->select('RC', [$validity, $before, '1:6']), 'SELECT with QRESYNC');
    same(rcube_imap_generic::uncompressMessageSet($c->data['VANISHED']), [3, 4], 'VANISHED');
    same(array_keys($c->data['QRESYNC']), [1, 2, 6], 'messages with other flags');
    must(in_array('$Forwarded', $c->data['QRESYNC'][2]['flags']), 'the keyword');
    $changed = $c->fetch('RC', '1:*', true, ['UID', 'FLAGS', 'MODSEQ'], $before, true);
    same(array_map(fn ($h) => $h->uid, array_values($changed)), [1, 2, 6], 'CHANGEDSINCE with VANISHED');
    foreach ($changed as $h) {
        must($h->modseq > $before, 'MODSEQ grows');
    }
    return $c;
}

function extras($c)
{
    if ($c->getCapability('QUOTA')) {
        must($c->getQuota('INBOX') !== false, 'GETQUOTAROOT');
    }
    if ($c->getCapability('METADATA')) {
        must($c->setMetadata('RC', ['/private/comment' => 'a "note"', '/private/vendor/kolab/x' => "two\r\nlines"]), 'SETMETADATA');
        same($c->getMetadata('RC', ['/private/comment', '/private/vendor/kolab'], ['DEPTH' => 'infinity']) !== null, true, 'GETMETADATA');
        $all = $c->getMetadata('RC', ['/private/comment', '/private/vendor/kolab/x']);
        same($all['RC'], ['/private/comment' => 'a "note"', '/private/vendor/kolab/x' => "two\r\nlines"], 'GETMETADATA');
        must($c->deleteMetadata('RC', ['/private/comment']), 'SETMETADATA to NIL');
        same($c->getMetadata('RC', '/private/comment'), [], 'what was taken away');
    }
    if ($c->getCapability('ACL')) {
        must(count($c->myRights('RC')) > 5, 'MYRIGHTS');
        must($c->setACL('RC', 'bob@martlet.test', 'lrs'), 'SETACL');
        same($c->getACL('RC')['bob@martlet.test'], ['l', 'r', 's'], 'GETACL');
        must($c->listRights('RC', 'bob@martlet.test'), 'LISTRIGHTS');
        must($c->deleteACL('RC', 'bob@martlet.test'), 'DELETEACL');
    }
    must($c->clearFolder('RC/Done'), 'all messages of a mailbox deleted');
    same($c->status('RC/Done')['MESSAGES'], 0, 'an emptied mailbox');
    must($c->deleteFolder('RC/Done') && $c->deleteFolder('RC'), 'DELETE');
}

$c = connect();
mailboxes($c);
messages($c);
order($c);
$c = changes($c);
extras($c);
$c->closeConnection();

// A wrong password is told apart from no connection.
$c = new rcube_imap_generic();
if ($c->connect($host, $user, 'wrong', ['port' => (int) $port, 'ssl_mode' => $mode ?: null, 'auth_type' => 'PLAIN',
    'socket_options' => ['ssl' => ['cafile' => $ca, 'peer_name' => 'localhost']]])) {
    fail('a wrong password was taken');
}
same($c->resultcode, 'AUTHENTICATIONFAILED', 'the code for a wrong password');
echo "all done\n";
