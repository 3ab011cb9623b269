<?php

declare(strict_types=1);

use Clock\Zones;

require __DIR__ . '/../vendor/autoload.php';

const NAME = 'php';
const VERSION = '1';

$path = parse_url($_SERVER['REQUEST_URI'], PHP_URL_PATH);

switch ($path) {
    case '/':
        $name = NAME;
        $version = VERSION;
        $clocks = Zones::clocks(new DateTimeImmutable());
        require __DIR__ . '/../templates/index.php';
        break;

    case '/api/clocks':
        header('Content-Type: application/json');
        echo json_encode(Zones::clocks(new DateTimeImmutable()), JSON_THROW_ON_ERROR), "\n";
        break;

    case '/health':
        header('Content-Type: text/plain');
        echo "ok\n";
        break;

    default:
        http_response_code(404);
        header('Content-Type: text/plain');
        echo "not found\n";
}
