<!doctype html>
<html lang="en">
<head>
  <meta charset="utf-8">
  <title><?= htmlspecialchars($name) ?></title>
  <link rel="stylesheet" href="/style.css">
</head>
<body>
  <h1><?= htmlspecialchars($name) ?></h1>
  <p>Version <?= htmlspecialchars($version) ?></p>
  <table>
    <?php foreach ($clocks as $city => $time): ?>
      <tr><th><?= htmlspecialchars($city) ?></th><td><?= htmlspecialchars($time) ?></td></tr>
    <?php endforeach ?>
  </table>
</body>
</html>
