#!/bin/sh
# Starts php-fpm, and nginx in front of it on $PORT. Both end with this script.
set -e

sed "s/PORT/${PORT:-8080}/" nginx.conf > /tmp/nginx.conf
php-fpm8.2 --nodaemonize --fpm-config "$PWD/php-fpm.conf" &
fpm=$!
nginx -c /tmp/nginx.conf &
nginx=$!

trap 'kill -QUIT $nginx $fpm' TERM INT
wait $nginx || true
wait $nginx || true
kill -QUIT $fpm 2> /dev/null || true
