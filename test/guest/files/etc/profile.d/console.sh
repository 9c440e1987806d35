export PATH=/usr/local/sbin:/sbin:/usr/sbin:/bin:/usr/bin
export PS1='guest# '
# Programs drive the console: without echo they read prompts and output alone.
if [ "$(tty)" = /dev/ttyS0 ]; then
  stty -echo
  read -r uptime _ </proc/uptime
  echo "calotype-guest up $(hostname) $uptime"
fi
