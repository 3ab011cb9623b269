terraform {
  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = "5.100.0"
    }
  }
}

provider "aws" {
  default_tags {
    tags = { made-by = "terraform" }
  }
  endpoints {
    apprunner = var.ekiden
    sts       = var.ekiden
  }
}

variable "ekiden" {
  description = "The endpoint of Ekiden's API."
}

variable "images" {
  description = "Two images of the same application."
  type        = list(string)
}

variable "small_image" {
  description = "An image that is quick to start."
}

variable "repository" {
  description = "A source repository for which Ekiden's configuration names an image."
}

variable "companions" {
  description = "The outputs of `companions`."
}

# 1: everything is made. 2: what can be changed in place is. 3: what cannot is replaced.
variable "phase" {
  type = number
}

variable "deployment" {
  description = "A deployment cannot be imported; without it everything can."
  type        = bool
  default     = true
}

locals {
  changed  = var.phase >= 2
  replaced = var.phase >= 3
  word     = local.changed ? "second" : "first"
  tags     = { phase = local.word }
}
