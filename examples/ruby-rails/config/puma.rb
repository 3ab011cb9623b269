environment ENV.fetch("RAILS_ENV", "production")
port ENV.fetch("PORT", 8080), "0.0.0.0"
threads 1, ENV.fetch("RAILS_MAX_THREADS", 5).to_i
