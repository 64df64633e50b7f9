. /tmp/engine-try/run.sh
M=/tmp/engine-martlet
time timeout 50 $M import mbox ../a.mbox --to alice@martlet.test --plan; time timeout 50 $M import mbox ../a.mbox --to alice@martlet.test; echo rc=$?;  time timeout 50 $M import mbox ../a.mbox --to alice@martlet.test --json --verify; $M import sources alice@martlet.test;  $M import mbox ../a.mbox --to nobody@martlet.test; kill $(cat ../try.pid); date
